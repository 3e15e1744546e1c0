"""aweigh compare: the same files agree, planted differences are counted, and the page shows them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from aweigh.runtime.agreement.match import ScoredBoxes, pair_detections
from aweigh.runtime.agreement.tolerances import TOLERANCES
from aweigh.runtime.cli.main import main
from aweigh.runtime.compare.comparison import Comparison, ImageDifference, LabelledImage, compare_models
from aweigh.runtime.compare.page import distinct_names
from aweigh.runtime.detector import Detector
from aweigh.runtime.errors import BadInput
from aweigh.runtime.spec import METADATA_KEY, Category, ModelSpec

MakeModel = Callable[..., Path]


def changed(model: Path, name: str, change: Callable[[onnx.ModelProto], None]) -> Path:
    """A copy of a model file with something else in its graph or its spec."""
    proto = onnx.load(model)
    change(proto)
    path = model.with_name(name)
    onnx.save(proto, str(path))
    return path


def constant(proto: onnx.ModelProto, old: float, new: float) -> None:
    """Replace the one constant of the graph that is ``old``."""
    [found] = [t for t in proto.graph.initializer if numpy_helper.to_array(t).tolist() == pytest.approx(old)]
    found.CopyFrom(numpy_helper.from_array(np.asarray(new, np.float32), found.name))


def last_add(proto: onnx.ModelProto, value: list[float], output: str) -> None:
    """Add ``value`` to an output of the graph."""
    for node in proto.graph.node:
        node.output[:] = [f"{output}_before" if name == output else name for name in node.output]
    proto.graph.initializer.append(numpy_helper.from_array(np.asarray(value, np.float32), "planted"))
    proto.graph.node.append(onnx.helper.make_node("Add", [f"{output}_before", "planted"], [output], name="plant"))


def half_score(factor: float) -> Callable[[onnx.ModelProto], None]:
    """The score of the half box, 0.5 of red, becomes another."""

    def change(proto: onnx.ModelProto) -> None:
        muls = {name for node in proto.graph.node if node.op_type == "Mul" for name in node.input}
        halves = [
            t
            for t in proto.graph.initializer
            if t.name in muls and numpy_helper.to_array(t).shape == () and numpy_helper.to_array(t) == np.float32(0.5)
        ]
        halves[-1].CopyFrom(numpy_helper.from_array(np.float32(factor), halves[-1].name))

    return change


def swapped_names(proto: onnx.ModelProto) -> None:
    [entry] = [p for p in proto.metadata_props if p.key == METADATA_KEY]
    spec = ModelSpec.from_json(entry.value).to_dict()
    spec["categories"] = [{"id": 17, "name": "whole"}, {"id": 3, "name": "left half"}]
    entry.value = json.dumps(spec)


def run(*arguments: object) -> int:
    return main(["compare", *map(str, arguments), "--threads", "1"])


def test_a_file_is_the_same_as_itself(model: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(model, model, "--source", folder, "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["verdict"], report["pictures"], report["pictures_differing"]) == ("same", 3, 0)
    assert report["detections"] == {"a": 4, "b": 4}
    assert report["match"] == {
        **dict.fromkeys(("lost", "new", "borderline", "relabelled", "moved"), 0),
        "compared": 4,
        "max_moved_px": 0.0,
        "max_score_error": 0.0,
        "rescored": 0,
    }
    assert report["pair_iou"]["min"] == 1.0
    assert report["a"]["sha256"] == report["b"]["sha256"]
    assert (report["worst"], report["truth"], report["page"]) == ([], None, None)


@pytest.mark.parametrize(
    ("plant", "expected"),
    [
        # Half boxes at the threshold's wrong side: one in each picture with red.
        (half_score(0.04), {"lost": 2, "differing": 2}),
        (swapped_names, {"relabelled": 4, "differing": 4}),
        (lambda proto: last_add(proto, [0.0, 0.0, 3.0, 0.0], "boxes"), {"moved": 4, "differing": 4}),
        (half_score(0.45), {"rescored": 2, "differing": 0}),
    ],
    ids=["lost", "relabelled", "moved", "rescored"],
)
def test_planted_differences_are_counted(
    model: Path, folder: Path, plant: Any, expected: dict[str, int], capsys: pytest.CaptureFixture[str]
) -> None:
    other = changed(model, "other.onnx", plant)
    assert run(model, other, "--source", folder, "--conf", "0.06", "--json") == 1
    report = json.loads(capsys.readouterr().out)
    counts = {**report["match"], "rescored": report["rescored"], "differing": report["differing"]}
    kinds = ("lost", "new", "relabelled", "moved", "rescored", "differing")
    assert {kind: counts[kind] for kind in kinds} == {**dict.fromkeys(kinds, 0), **expected}
    assert report["verdict"] == "different"
    assert {Path(entry["file"]).name for entry in report["worst"]} == {"a.png", "b.jpg"}
    # The other way round what was lost is new, and all else counts as before.
    assert run(other, model, "--source", folder, "--conf", "0.06", "--json") == 1
    back = json.loads(capsys.readouterr().out)
    assert (back["match"]["new"], back["match"]["lost"]) == (report["match"]["lost"], 0)
    assert back["differing"] == report["differing"]


def test_tolerances_decide(model: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = changed(model, "other.onnx", half_score(0.45))
    assert run(model, other, "--source", folder, "--tol-score", "0.06", "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["match"]["max_score_error"] == pytest.approx(0.05)
    assert report["tolerances_overridden"] == {"score": {"default": 1e-4}}
    moved = changed(model, "moved.onnx", lambda proto: last_add(proto, [0.0, 0.0, 3.0, 0.0], "boxes"))
    assert run(model, moved, "--source", folder, "--tol-moved-px", "3.1") == 0
    assert run(model, moved, "--source", folder, "--tol-share", "0.99") == 1
    assert run(model, moved, "--source", folder, "--tol-share", "1") == 0
    assert "verdict" in capsys.readouterr().out


def test_moves_are_told_in_pixels_of_the_picture(model: Path, folder: Path) -> None:
    """The pictures of 192x128 go into a network of 96x64: 3 pixels there are 6 in the picture."""
    moved = changed(model, "moved.onnx", lambda proto: last_add(proto, [0.0, 0.0, 3.0, 0.0], "boxes"))
    with Detector(model, threads=1) as a, Detector(moved, threads=1) as b:
        found = compare_models(a, b, [folder / "a.png"])
    assert found.match.max_moved_px == pytest.approx(6.0)
    assert found.images[0].pairing.kinds == (["moved", "moved"], ["moved", "moved"])


def test_another_threshold_alone_loses_nothing(make_model: MakeModel, folder: Path) -> None:
    low = make_model("low.onnx", post={"score_threshold": 0.05})
    high = make_model("high.onnx", post={"score_threshold": 0.6})
    with Detector(low, threads=1) as a, Detector(high, threads=1) as b:
        found = compare_models(a, b, [folder / "a.png"])
        assert (found.conf, found.match.compared, found.match.differing) == (0.6, 1, 0)
        with pytest.raises(BadInput, match=r"exported with the score threshold 0\.6"):
            compare_models(a, b, [folder / "a.png"], conf=0.3)


def with_best(*best: float | None) -> Callable[[onnx.ModelProto], None]:
    """The best thresholds of the half and of the whole box, whose scores are 0.5 and 1."""

    def change(proto: onnx.ModelProto) -> None:
        [entry] = [p for p in proto.metadata_props if p.key == METADATA_KEY]
        entry.value = json.dumps(ModelSpec.from_json(entry.value).to_dict() | {"best_conf": best})

    return change


def test_above_the_best_threshold_of_each_class(
    model: Path, folder: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """The higher one of both files counts, and nothing is lost to it that one of the two still reports."""
    low, high = changed(model, "low.onnx", with_best(0.2, None)), changed(model, "high.onnx", with_best(0.55, None))
    own = ModelSpec.from_json(onnx.load(model).metadata_props[0].value).post.score_threshold
    assert run(low, high, "--source", folder / "a.png", "--conf", "best", "--json", "--out", tmp_path) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["conf"] == {"left half": 0.55, "whole": own}
    assert (report["detections"], report["differing"]) == ({"a": 1, "b": 1}, 0)
    assert f"each class's best threshold ({own:.2g} to 0.55)" in (tmp_path / "compare.html").read_text().replace(
        "&#39;", "'"
    )
    # A score that falls across its class's threshold, by less than scores may differ, is borderline.
    at_half = changed(model, "half.onnx", with_best(0.49995, None))
    fallen = changed(at_half, "fallen.onnx", half_score(0.4999))
    with Detector(at_half, threads=1) as a, Detector(fallen, threads=1) as b:
        match = compare_models(a, b, [folder / "a.png"], conf="best").match
        assert (match.compared, match.lost, match.borderline) == (2, 0, 1)
    assert run(low, model, "--source", folder, "--conf", "best") == 2
    assert "holds no best thresholds" in capsys.readouterr().err


def test_against_known_objects(model: Path, folder: Path) -> None:
    other = changed(model, "other.onnx", half_score(0.04))
    truth = np.array([[20, 30, 100, 90], [20, 30, 60, 90], [0, 0, 10, 10]], np.float32)
    pictures = [LabelledImage(folder / "a.png", truth, ("whole", "left half", "left half"))]
    with Detector(model, threads=1) as a, Detector(other, threads=1) as b:
        report = compare_models(a, b, pictures, conf=0.06).to_dict()
    assert report["truth"] == {"objects": 3, "a": {"found": 2, "false": 0}, "b": {"found": 1, "false": 0}}
    wrong = [LabelledImage(folder / "a.png", truth[:1], ("left half",))]
    with Detector(model, threads=1) as a, Detector(model, threads=1) as b:
        assert compare_models(a, b, wrong, same_iou=0.6).to_dict()["truth"]["a"] == {"found": 0, "false": 2}


def test_the_gallery_holds_the_worst_pictures(model: Path, folder: Path, tmp_path: Path) -> None:
    other = changed(model, "<other>.onnx", half_score(0.04))
    out = tmp_path / "out"
    assert run(model, other, "--source", folder, "--conf", "0.06", "--out", out, "--gallery", "1") == 1
    assert {p.name for p in out.iterdir()} == {"compare.json", "compare.html"}
    page = (out / "compare.html").read_text()
    assert page.count("data:image/jpeg;base64,") == 2
    assert "1 of 2 images with differences" in page
    assert "&lt;other&gt;.onnx" in page
    assert "<other>" not in page
    assert "http" not in page.replace("http-equiv", "")
    assert json.loads((out / "compare.json").read_text())["page"] == str(out / "compare.html")
    assert run(model, model, "--source", folder, "--out", out) == 0
    assert "No image shows a difference" in (out / "compare.html").read_text()


def test_colours_in_the_gallery_are_those_of_the_differences(model: Path, folder: Path) -> None:
    other = changed(model, "other.onnx", half_score(0.04))
    with Detector(model, threads=1) as a, Detector(other, threads=1) as b:
        [picture] = compare_models(a, b, [folder / "a.png"], conf=0.06).images
    assert picture.pairing.kinds == (["same", "lost"], ["same"])


def test_names_that_tell_two_files_apart() -> None:
    assert distinct_names("x/best.onnx", "y/last.onnx") == ("best.onnx", "last.onnx")
    assert distinct_names("/r/x/w/best.onnx", "/r/y/w/best.onnx") == ("x/w/best.onnx", "y/w/best.onnx")
    assert distinct_names("best.onnx", "best.onnx") == ("best.onnx", "best.onnx")


@pytest.mark.usefixtures("only_runtime_verbs")
def test_data_needs_the_readers_of_train(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(model, model, "--data", "x") == 3
    assert ".[train]" in capsys.readouterr().err


def test_pictures_of_a_data_set(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from aweigh.train.data.shapes import generate_shapes

    data = generate_shapes(tmp_path / "shapes", train=1, val=3, size_hw=(64, 96))
    assert run(model, model, "--data", data, "--split", "val", "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["pictures"] == 3
    assert report["truth"]["objects"] > 0
    assert report["truth"]["a"] == report["truth"]["b"]


@pytest.mark.parametrize(
    ("flags", "code", "words"),
    [
        (["--iou", "1"], 2, "--iou 1.0: expected"),
        (["--conf", "0.01"], 2, "exported with the score threshold"),
        (["--conf", "good"], 2, "'good': expected a number from 0 to 1, or best"),
        (["--tol-share", "-1"], 2, "--tol-share -1.0: expected 0 or more"),
        (["--gallery", "-1"], 2, "--gallery -1"),
        (["--data", "x"], 2, "not allowed with argument"),
    ],
)
def test_bad_flags(
    model: Path, folder: Path, flags: list[str], code: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(model, model, "--source", folder, *flags) == code
    assert words in capsys.readouterr().err


def test_files_without_a_class_in_common(make_model: MakeModel, folder: Path) -> None:
    first = make_model("first.onnx")
    second = make_model("second.onnx", categories=(Category(1, "cat"), Category(2, "dog")))
    with Detector(first, threads=1) as a, Detector(second, threads=1) as b, pytest.raises(BadInput, match="in common"):
        compare_models(a, b, [folder / "a.png"])


def test_the_image_with_a_score_beyond_its_limit_comes_first() -> None:
    def difference(name: str, first: Any, second: Any) -> ImageDifference:
        empty: Any = None
        return ImageDifference(Path(name), empty, empty, pair_detections(first, second, 1.0, score_limit=0.2))

    def found(*rows: tuple[float, float]) -> ScoredBoxes:
        boxes = np.array([[x, 0, x + 10, 10] for x, _ in rows], np.float32).reshape(-1, 4)
        return ScoredBoxes(boxes, np.array([s for _, s in rows], np.float32), np.zeros(len(rows), np.int64))

    many = difference("many.jpg", found((0, 0.9), (50, 0.9), (90, 0.9)), found())
    culprit = difference("culprit.jpg", found((0, 0.9)), found((0, 0.1)))
    comparison = Comparison(0.05, 0.5, TOLERANCES["int8"], {}, [many, culprit])
    assert [p.path.name for p in comparison.worst] == ["culprit.jpg", "many.jpg"]


def test_the_verdict_does_not_depend_on_the_number_of_images() -> None:
    """One score of 150 may change, wherever; three may not."""

    def image(name: str, changed: int) -> ImageDifference:
        empty: Any = None
        boxes = np.array([[20 * i, 0, 20 * i + 10, 10] for i in range(50)], np.float32)
        scores = np.full(50, 0.9, np.float32)
        other = np.where(np.arange(50) < changed, 0.3, scores).astype(np.float32)
        first, second = (ScoredBoxes(boxes, values, np.zeros(50, np.int64)) for values in (scores, other))
        return ImageDifference(Path(name), empty, empty, pair_detections(first, second, 1.0, score_limit=0.2))

    def verdict(*changed: int) -> str:
        images = [image(f"{i}.jpg", count) for i, count in enumerate(changed)]
        return Comparison(0.05, 0.5, TOLERANCES["int8"], {}, images).verdict

    assert verdict(1) == "different"  # of 50
    assert verdict(1, 0, 0) == "same"
    assert verdict(3, 0, 0) == "different"
    assert verdict(*[1, 0, 0] * 4) == "same"
