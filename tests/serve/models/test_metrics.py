from __future__ import annotations

import httpx
import numpy as np
import numpy.typing as npt
from prometheus_client.parser import text_string_to_metric_families
from server_process import jpeg


class Counts:
    """A scrape, as Prometheus' own parser reads it."""

    def __init__(self, client: httpx.Client) -> None:
        answer = client.get("/metrics")
        assert answer.headers["content-type"] == "text/plain; version=1.0.0; charset=utf-8"
        self.text = answer.text
        self.families = {family.name: family for family in text_string_to_metric_families(answer.text)}

    def value(self, sample: str, **labels: str) -> float:
        """Sum over the labels not named."""
        samples = [s for family in self.families.values() for s in family.samples]
        return sum(s.value for s in samples if s.name == sample and labels.items() <= s.labels.items())


def test_prometheus_reads_what_was_counted(client: httpx.Client, picture: npt.NDArray[np.uint8]) -> None:
    before = Counts(client)
    for _ in range(3):
        client.post("/v1/models/red/detect", content=jpeg(picture), headers={"Content-Type": "image/jpeg"})
    client.post("/v1/models/red/detect", content=b"text", headers={"Content-Type": "image/jpeg"})
    client.get("/nowhere/at/all")
    after = Counts(client)

    def counted(sample: str, **labels: str) -> float:
        return after.value(sample, **labels) - before.value(sample, **labels)

    detect = "/v1/models/{name}/detect"
    assert counted("aweigh_requests_total", route=detect, status="200", transport="http") == 3
    assert counted("aweigh_requests_total", route=detect, status="415") == 1
    assert counted("aweigh_requests_total", route="none", status="404") == 1
    assert counted("aweigh_errors_total", kind="unsupported_type") == 1
    assert counted("aweigh_errors_total", kind="not_found") == 1
    for stage in ("decode", "preprocess", "queue", "network", "postprocess"):
        assert counted("aweigh_stage_seconds_count", stage=stage, model="red") == 3
        assert counted("aweigh_stage_seconds_sum", stage=stage) > 0
    assert counted("aweigh_batch_pictures_sum", model="red") == 3
    assert after.value("aweigh_queue_requests") == 0
    assert after.value("process_resident_memory_bytes") > 1e6
    (model,) = after.families["aweigh_model"].samples
    assert (model.labels["model"], model.labels["precision"], len(model.labels["version"])) == ("red", "fp32", 12)
    assert "/nowhere/at/all" not in after.text
