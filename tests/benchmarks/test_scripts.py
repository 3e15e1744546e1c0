"""Every script from its command line to its report, with a small detector and tiny lengths. No test asserts a time."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import accuracy
import compare
import latency
import memory
import numpy as np
import ort_settings
import papers_tables
import parity
import plain
import pytest
import sharing
import throughput
import torch
import video

from aweigh.export import ExportOptions, export
from aweigh.runtime.bench.plan import BenchPlan
from aweigh.runtime.detector import Detector
from aweigh.runtime.errors import BadInput
from aweigh.runtime.files.digest import file_sha256
from aweigh.runtime.images.reading import read_image
from aweigh.runtime.opening import OpenOptions
from aweigh.train.checkpoint import load_checkpoint, save_checkpoint
from aweigh.train.data.shapes import SHAPES, generate_shapes
from support import untrained
from support.artifact import SETTINGS, Artifact, bare_run, parse_artifact, prepared_batches
from support.papers import NOT_BUILT, ROWS
from support.reports import script
from support.reports.growth import growth_mib
from support.reports.report import Report, read

MakeModel = Callable[..., Path]
TINY = {"width": 8, "light_stem": True, "channels": 8, "convs": 1}


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out" / "report.json"


def run(module: Any, out: Path, *arguments: object) -> tuple[int, Report]:
    """The exit code, and the report that was written and can be shown."""
    words = [*map(str, arguments), "--threads", "1", "--out", str(out)]
    code = script.run(f"{module.__name__}.py", module.main, words)
    assert out.exists()
    report = read(out, module.__name__)
    assert module.LAYOUT.grids(report)
    assert str(out.parent.parent) not in out.read_text()
    return code, report


def test_latency(model: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, report = run(latency, out, "--model", model, "--batch", "1,2", "--concurrency", "1,2", "--iters", "3")
    assert code == 0
    assert [(row["batch"], row["concurrency"]) for row in report.rows] == [(1, 1), (1, 2), (2, 1), (2, 2)]
    assert {row["model"] for row in report.rows} == {"red.onnx"}
    assert {row["sha256"] for row in report.rows} == {file_sha256(model)}
    assert report.about["timed"]["pictures"] == "one generated JPEG of 1280x720 pixels, from memory"
    assert "p50 / p90 / p99" in capsys.readouterr().out
    code, report = run(latency, out, "--model", model, "--iters", "1", "--repeat", "2", "--limit-input-ms", "0")
    assert (code, len(report.rows)) == (1, 2)


def test_memory(model: Path, out: Path) -> None:
    code, report = run(memory, out, "--model", model, "--iters", "2", "--limit-peak-mib", "4000")
    [row] = report.rows
    parts = row["process_mib"]
    assert code == 0
    assert parts["libraries"] + parts["network"] + parts["activations"] == pytest.approx(parts["peak"])
    assert row["file_mib"] == pytest.approx(model.stat().st_size / 2**20)
    assert run(memory, out, "--model", model, "--iters", "1", "--limit-peak-mib", "1")[0] == 1


@pytest.mark.parametrize("resize", ["letterbox", "keep-ratio"])
def test_batches_are_those_that_the_detector_runs(
    make_model: MakeModel,
    folder: Path,
    write_picture: Callable[..., Path],
    resize: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_picture(folder / "tall.png", np.full((200, 60, 3), 60, np.uint8))
    changes: dict[str, Any] = {"resize": resize, "dynamic_size": resize == "keep-ratio"}
    path = make_model(input=changes, batch=(2, 4))
    pictures = sorted(folder.rglob("*.*g"))
    with Artifact(path, {"threads": 1}).open() as detector:
        ran: list[Any] = []
        infer = detector.backend.infer
        monkeypatch.setattr(detector.backend, "infer", lambda batch: ran.append(batch.copy()) or infer(batch))
        detector(pictures)
        ours = prepared_batches(detector, pictures)
        assert len(ours) == len(ran) == (2 if resize == "keep-ratio" else 1)
        for mine, its in zip(ours, ran, strict=True):
            np.testing.assert_array_equal(mine, its)
        wrapped = infer(ours[0])
        names = [output.name for output in detector.backend.session.get_outputs()]  # type: ignore[attr-defined]
        for name, bare in zip(names, bare_run(detector)(ours[0]), strict=True):
            np.testing.assert_array_equal(bare, wrapped[name])


def test_throughput(model: Path, folder: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, report = run(throughput, out, "--model", model, "--source", folder, "--rounds", "6")
    assert code == 0
    works = {row["work"]: row for row in report.rows}
    assert set(works) == {"folder", "picture"}
    assert (works["folder"]["batch"], works["picture"]["batch"]) == (4, 1)
    for row in works.values():
        assert (row["pictures"], row["ratio"]["pairs"]) == (3, 6)
        assert row["ratio"]["low"] <= row["ratio"]["median"] <= row["ratio"]["high"]
    assert run(throughput, out, "--model", model, "--source", folder, "--rounds", "1", "--limit-ratio", "0")[0] == 1
    words = ["--model", str(model), "--source", str(folder), "--work", "film"]
    assert script.run("throughput.py", throughput.main, words) == 2
    assert "--work film: expected some of folder, picture" in capsys.readouterr().err


def test_compare_files_and_commands(model: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--a", model, "--b", model, "--b", f"{model}@threads=2", "--rounds", "3", "--at-least", "0"]
    code, report = run(compare, out, *words)
    assert code == 0
    assert [(row["a"]["threads"], row["b"]["threads"]) for row in report.rows] == [(1, 1), (1, 2)]
    assert len(report.about["rounds_ms"]["a"]) == 3
    assert report.rows[0]["a"]["sha256"] == file_sha256(model)
    assert run(compare, out, "--a", model, "--b", model, "--rounds", "1", "--what", "total", "--batch", "2")[0] == 0
    quick, slow = (f"cmd:{sys.executable} -S -c 'import time; time.sleep({s})'" for s in (0, 1))
    code, report = run(compare, out, "--a", quick, "--b", slow, "--rounds", "1", "--at-least", "1")
    assert code == 1  # one waits a second, which the other does not
    assert report.rows[0]["b"]["model"].endswith("import time; time.sleep(1)")
    assert script.run("compare.py", compare.main, ["--a", "cmd:exit 7", "--b", "cmd:true"]) == 3
    assert "'exit 7' ended with exit code 7" in capsys.readouterr().err


def test_settings_of_an_artifact() -> None:
    parser = script.make_parser("x")
    from support.artifact import add_settings

    add_settings(parser)
    options = parser.parse_args(["--threads", "2"])
    assert parse_artifact("a/b.onnx", options) == Artifact(Path("a/b.onnx"), {"threads": 2})
    assert parse_artifact("b.onnx@device=cuda,threads=4", options).label == "b.onnx device=cuda"
    assert parse_artifact("b.onnx", options).plan(3, iterations=1) == BenchPlan(
        "b.onnx", 3, OpenOptions(threads=2), iterations=1
    )
    for text in ("b.onnx@colour=red", "b.onnx@threads", "b.onnx@threads=many"):
        with pytest.raises(BadInput, match=r"expected (FILE@NAME|int)"):
            parse_artifact(text, options)
    assert set(SETTINGS) <= set(OpenOptions.__dataclass_fields__)


def test_settings_of_onnx_runtime(model: Path, out: Path) -> None:
    code, report = run(ort_settings, out, "--model", model, "--settings", "no-arena,io-binding", "--rounds", "2")
    assert code == 0
    assert [row["setting"] for row in report.rows] == ["as shipped", "no-arena", "io-binding"]
    assert all(row["ratio"]["pairs"] == 2 and row["memory_mb"]["peak"] > 0 for row in report.rows)
    assert script.run("ort_settings.py", ort_settings.main, ["--model", str(model), "--settings", "fast"]) == 2


def test_sharing(model: Path, folder: Path, out: Path) -> None:
    code, report = run(sharing, out, "--model", model, "--source", folder, "--clients", "3", "--calls", "40")
    [row] = report.rows
    assert code == 0
    assert (row["calls"], row["differing"], row["detections"], len(row["memory_mb"])) == (40, 0, 4, 40)


def test_sharing_finds_a_detector_that_mixes_its_callers_up(model: Path, folder: Path) -> None:
    """Every fifth call gives the result of another picture."""
    pictures = [read_image(folder / name) for name in ("a.png", "b.jpg")]

    class Mixed(Detector):
        calls = 0

        def __call__(self, source: Any, conf: float | None = None) -> Any:
            self.calls += 1
            shown = pictures[0] if self.calls > 2 and self.calls % 5 == 0 else source
            return super().__call__(shown, conf)

    with Mixed(model, threads=1) as detector:
        row = sharing.share(detector, pictures, clients=1, calls=20)
    assert row["differing"] == 2  # calls 5, 10, 15, 20, of which every other shows the first picture anyway


def test_growth() -> None:
    assert growth_mib([100.0, 150.0, 150.0, 150.0]) == 0
    assert growth_mib([100.0, 100.0, 110.0, 120.97152]) == pytest.approx(20)
    assert growth_mib([1.0, 2.0, 3.0]) is None


def test_video(model: Path, folder: Path, out: Path) -> None:
    words = ["--source", folder / "a.png", "--frames", 12, "--stretch", 5, "--size", 64, 96, "--check-every", 1]
    code, report = run(video, out, "--model", model, *words, "--limit-ratio", 0)
    [row] = report.rows
    assert code == 0
    assert (row["frames"], row["checked"], row["out_of_order"]) == (12, 11, 0)
    assert row["like_the_next"] * 2 <= row["checked"]
    assert row["ratio"]["pairs"] == 3


def test_video_finds_frames_out_of_order(model: Path, folder: Path, tmp_path: Path) -> None:
    film, files = video.generate(tmp_path, [read_image(folder / "b.jpg")], 8, (64, 96))
    with Artifact(model, {"threads": 1}).open() as detector:
        found = [detector(frame) for frame in video.frames(film)]
        swapped = [found[1], found[0], *found[2:]]
        assert video.check_order(detector, film, found, 1)["out_of_order"] == 0
        assert video.check_order(detector, film, swapped, 1)["out_of_order"] == 2
        still = video.check_order(detector, film, [found[0]] * 8, 1)
    assert still["out_of_order"] > 0
    good = {"ratio": {"median": 1.0}, "growth_mib": 0.0, "out_of_order": 0, "like_the_next": 0, "checked": 7}
    assert video.failures(good, 0.95, 16) == []
    bad = {"ratio": {"median": 0.9}, "growth_mib": 17.0, "out_of_order": 0, "like_the_next": 6, "checked": 7}
    assert video.failures(bad, 0.95, 16) == ["ratio", "memory", "order"]
    assert len(files) == 8


@pytest.mark.slow
def test_parity(tmp_path: Path, out: Path) -> None:
    data = generate_shapes(tmp_path / "shapes", train=1, val=3, size_hw=(96, 128))
    checkpoint = untrained.write_checkpoint(tmp_path / "m.pt", "nano", "o2f", (96, 128), len(SHAPES), network=TINY)
    made = load_checkpoint(checkpoint)
    save_checkpoint(replace(made, spec=replace(made.spec, categories=SHAPES)), checkpoint)
    words = ["--models", checkpoint, "--data", data, "--pictures", 2, "--batches", "1,2"]
    code, report = run(parity, out, *words)
    assert code == 0
    assert [row["post"] for row in report.rows] == ["none", "nms", "raw"]
    assert {row["verdict"] for row in report.rows} == {"passed"}
    assert report.rows[0]["ap"]["difference"] == 0
    assert report.rows[2]["ap"] is None
    assert run(parity, out, *words, "--tol-moved-px", 0)[0] == 1


@pytest.mark.slow
def test_plain(tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = generate_shapes(tmp_path / "shapes", train=1, val=3, size_hw=(96, 128))
    checkpoint = untrained.write_checkpoint(tmp_path / "m.pt", "nano", "fcos", (96, 128), len(SHAPES), network=TINY)
    path = tmp_path / "vote.onnx"
    export(checkpoint, path, ExportOptions(post="vote", golden=0, verify=False))
    words = ["--source", data / "val", "--rounds", 2, "--file", path]
    code, report = run(plain, out, "--model", checkpoint, *words, "--at-least", 0)
    [row] = report.rows
    assert code == 0
    assert (row["post"], row["sha256"], row["agrees"]) == ("vote", file_sha256(path), True)
    assert row["match"]["compared"] > 50
    assert run(plain, out, "--model", checkpoint, *words, "--folder", "--at-least", 1e6)[0] == 1
    other = untrained.write_checkpoint(tmp_path / "o.pt", "nano", "o2f", (96, 128), 6, network=TINY)
    assert script.run("plain.py", plain.main, ["--model", str(other), *map(str, words)]) == 2
    assert "exported from" in capsys.readouterr().err


def test_accuracy_is_that_of_the_file_timed(make_model: MakeModel, tmp_path: Path, out: Path) -> None:
    data = generate_shapes(tmp_path / "shapes", train=1, val=3, size_hw=(64, 96))
    model, timed = make_model("shapes.onnx", categories=SHAPES), out.with_name("timed.json")
    run(latency, timed, "--model", model, "--iters", "1")
    words = ["--data", data, "--split", "val", "--timed", timed]
    code, report = run(accuracy, out, "--model", model, *words)
    [row] = report.rows
    assert code == 0
    assert (row["sha256"], row["images"]) == (file_sha256(model), 3)
    assert 0 <= row["AP"] <= 1
    assert row["timed"]["timed.json"][0]["batch"] == 1
    other = make_model("other.onnx", categories=SHAPES, parents={"commit": "def"})
    assert script.run("accuracy.py", accuracy.main, ["--model", str(other), *map(str, words)]) == 1


@pytest.mark.slow
def test_papers_tables(out: Path) -> None:
    words = ["--tables", "ala-xiii", "--architectures", "r18", "--imgsz", "64", "--iters", "1", "--classes", "3"]
    code, report = run(papers_tables, out, *words, "--device", "cpu", "--network", json.dumps(TINY))
    assert code == 0
    [row] = report.rows
    assert (row["name"], row["device"], row["theirs"]) == ("ALA, ResNet-18", "cpu", None)
    assert row["forward_ms"] + row["nms_ms"] == pytest.approx(row["network_ms"])
    assert row["eager"]["fps"] > 0
    assert "RTX 4090" in report.about["theirs_on"]["ala-xiii"]


@pytest.mark.slow
def test_papers_tables_prepared(out: Path, tmp_path: Path) -> None:
    """Exported first and alone; the timing takes the file that is there."""
    words = ["--tables", "ala-xiii", "--architectures", "r18", "--imgsz", "64", "--iters", "1", "--classes", "3"]
    words += ["--device", "cpu", "--network", json.dumps(TINY), "--models", str(tmp_path)]
    assert script.run("papers_tables.py", papers_tables.main, [*words, "--prepare"]) == 0
    file = tmp_path / "ala-xiii-ala-resnet-18.onnx"
    before = file_sha256(file)
    code, report = run(papers_tables, out, *words)
    assert (code, len(report.rows), file_sha256(file)) == (0, 1, before)
    assert report.rows[0]["device_gb"] is None
    assert script.run("papers_tables.py", papers_tables.main, [*words[:-2], "--prepare"]) == 2


def test_rows_of_the_papers() -> None:
    """As printed: the abstract of ALA gives the four frame rates again."""
    rates = [row.theirs["fps"] for row in ROWS if row.table == "ala-xiii" and row.theirs]
    assert rates == [11.9, 10.4, 9.9, 8.0]
    for row in ROWS:
        assert (row.architecture is None) == (row.not_built is not None)
        if row.table == "o2f-5":  # a frame is forward and NMS, to the paper's precision
            assert 1e3 / (row.theirs["forward_ms"] + row.theirs["nms_ms"]) == pytest.approx(row.theirs["fps"], abs=0.25)
    assert {row.name.removeprefix("ALA, ") for row in ROWS if row.not_built} == set(NOT_BUILT)
