"""A network that gives NaN for one image: its request is refused with the reason, by every door and by predict."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import tritonclient.grpc
from red import red_picture
from server_process import Server, jpeg, write_faulty_model

from aweigh.runtime.cli.main import main
from aweigh.runtime.detector import Detector
from aweigh.runtime.errors import CheckFailed

REASON = "a box or a score that is not finite for this image"


@pytest.fixture(scope="module", params=["boxes", "scores"])
def faulty_model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_faulty_model(tmp_path_factory.mktemp("faulty") / "faulty.onnx", request.param)


@pytest.fixture(scope="module")
def faulty_server(start: Callable[..., Server], faulty_model: Path) -> Server:
    return start("--model", str(faulty_model))


GOOD, BAD = red_picture(), red_picture()
BAD[100:, 150:] = (0, 255, 0)


def test_requests_of_images(faulty_server: Server) -> None:
    header = {"Content-Type": "image/png"}
    with faulty_server.client() as client:
        for body, status in ((GOOD, 200), (BAD, 500), (GOOD, 200)):
            answer = client.post("/v1/models/faulty/detect", content=jpeg(body, ".png"), headers=header)
            assert answer.status_code == status
        bad = client.post("/v1/models/faulty/detect", content=jpeg(BAD, ".png"), headers=header)
        assert bad.headers["content-type"] == "application/problem+json"
        assert REASON in bad.json()["detail"]
        together = [("file", ("x.png", jpeg(image, ".png"))) for image in (GOOD, BAD)]
        assert REASON in client.post("/v1/models/faulty/detect-batch", files=together).json()["detail"]


def test_requests_of_tensors(faulty_server: Server) -> None:
    def content(image: np.ndarray) -> dict[str, object]:  # type: ignore[type-arg]
        data = cv2.resize(image, (96, 64), interpolation=cv2.INTER_NEAREST).reshape(-1).tolist()
        return {"inputs": [{"name": "images", "datatype": "UINT8", "shape": [1, 64, 96, 3], "data": data}]}

    with faulty_server.client() as client:
        assert client.post("/v2/models/faulty/infer", json=content(GOOD)).status_code == 200
        for more in ({}, {"parameters": {"binary_data_output": True}}):
            answer = client.post("/v2/models/faulty/infer", json={**content(BAD), **more})
            assert answer.status_code == 500
            assert REASON in answer.json()["error"]
    with tritonclient.grpc.InferenceServerClient(faulty_server.grpc) as rpc:
        tensor = tritonclient.grpc.InferInput("images", [1, 64, 96, 3], "UINT8")
        tensor.set_data_from_numpy(cv2.resize(BAD, (96, 64), interpolation=cv2.INTER_NEAREST)[None])
        with pytest.raises(tritonclient.grpc.InferenceServerException, match="not finite") as caught:
            rpc.infer("faulty", [tensor])
        assert caught.value.status() == "StatusCode.INTERNAL"


def test_detector_and_predict(faulty_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Detector(faulty_model, threads=1) as detector:
        assert len(detector(jpeg(GOOD, ".png"))) == 2
        with pytest.raises(CheckFailed, match=REASON):
            detector(jpeg(BAD, ".png"))
    (tmp_path / "bad.png").write_bytes(jpeg(BAD, ".png"))
    assert main(["predict", "--model", str(faulty_model), "--source", str(tmp_path / "bad.png"), "--json"]) == 1
    assert REASON in capsys.readouterr().err
