"""The page says what the methods do, of the checkpoint's predictions, and needs nothing else."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from aweigh.runtime.cli.main import main
from aweigh.runtime.errors import BadInput
from aweigh.runtime.images.drawing import encode_image
from aweigh.runtime.images.preprocess import prepare
from aweigh.runtime.spec import InputSpec, ModelSpec
from aweigh.train.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from aweigh.train.data.open import load_split
from aweigh.train.data.records import Split
from aweigh.train.data.shapes import SHAPES
from aweigh.train.dense.points import make_points
from aweigh.train.explorer.explore import STEPS, Exploration, explore, find_record, predict, recoded
from aweigh.train.explorer.page import page_data, render
from aweigh.train.methods import METHODS, make_method
from aweigh.train.models.detector import build_detector

NETWORK = {"width": 8, "channels": 16, "convs": 1}


@pytest.fixture(autouse=True)
def _one_thread() -> Any:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def split(shapes: Path) -> Split:
    return load_split(shapes, "val")


def make_checkpoint(method: str, path: Path) -> Checkpoint:
    """An untrained model of a method whose predictions and learned parameters differ from place to place."""
    torch.manual_seed(0)
    spec_in = InputSpec((96, 128))
    detector = build_detector("nano", method, len(SHAPES), spec_in, NETWORK).eval()
    with torch.no_grad():
        detector.head.outputs["cls"].weight.normal_(0, 0.5)
        detector.head.outputs["cls"].bias.fill_(-1.0)
        detector.head.outputs["reg"].weight.normal_(0, 0.15)
        for parameter in detector.method.parameters():
            parameter.add_(0.3)
    spec = ModelSpec(method, "nano", SHAPES, spec_in, detector.method.post())
    save_checkpoint(Checkpoint(spec, NETWORK, {}, detector.state_dict(), {}, {}), path)
    return load_checkpoint(path)


def look(method: str, split: Split, tmp_path: Path, progress: float = 0.5) -> Exploration:
    return explore(make_checkpoint(method, tmp_path / "best.pt"), split, crowded(split), tuple(METHODS), progress)


def crowded(split: Split) -> Any:
    return max(split.records, key=lambda record: int(record.targets.sum()))


class Page(HTMLParser):
    """Tags of a page that must be closed, those left open, and what its elements point to."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.ids: list[str] = []
        self.data = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.links += [value or "" for name, value in attrs if name in ("src", "href", "data", "action")]
        self.ids += [values["id"] or ""] if "id" in values else []
        if tag not in ("meta", "img", "link", "br", "hr", "input"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.ids and self.ids[-1] == "data" and self.open[-1] == "script" and data.startswith("{"):
            self.data = data


def read(text: str) -> Page:
    page = Page()
    page.feed(text)
    page.close()
    return page


def test_the_page_needs_nothing_else(split: Split, tmp_path: Path) -> None:
    text = render(look("ala", split, tmp_path))
    page = read(text)
    assert page.open == []
    assert [link[:23] for link in page.links] == ["data:image/jpeg;base64,"]
    assert not re.search(r"https?://|@import|url\(|fetch\(|XMLHttpRequest", text)
    assert len(page.ids) == len(set(page.ids))


def test_names_of_the_data_set_cannot_break_out_of_the_page(split: Split, tmp_path: Path) -> None:
    exploration = look("fcos", split, tmp_path)
    evil = "</script><script>alert(1)</script>"
    spec = exploration.spec
    categories = (replace(spec.categories[0], name=evil), *spec.categories[1:])
    text = render(replace(exploration, spec=replace(spec, categories=categories)))
    assert evil not in text
    assert json.loads(read(text).data)["classes"][0] == evil


@pytest.mark.parametrize("method", METHODS)
def test_weights_are_what_the_methods_explain(method: str, split: Split, tmp_path: Path) -> None:
    """Masses and pairs of the page against explain(), called here on the network's own outputs."""
    checkpoint, record = make_checkpoint(method, tmp_path / "best.pt"), crowded(split)
    exploration = explore(checkpoint, split, record, tuple(METHODS), 0.5)
    data = json.loads(read(render(exploration)).data)
    detector = checkpoint.detector()
    with torch.no_grad():
        points, predictions = predict(detector, prepare(exploration.image_u8, checkpoint.spec.input)[0])
        own = detector.method.explain(predictions, points, exploration.targets, 0.5)
    assert [name for name, view in exploration.views.items() if view.own] == [method]
    expected = {method: own.mass()} | {n: v.explanation.mass() for n, v in exploration.views.items() if not v.own}
    assert len(data["truths"]) == int(record.targets.sum()) > 1
    for name, mass in expected.items():
        found = [truth["mass"][name] for truth in data["truths"]]
        torch.testing.assert_close(torch.tensor(found), mass, rtol=1e-3, atol=1e-4, check_dtype=False)
        listed = next(m for m in data["methods"] if m["name"] == name)
        sums = torch.zeros(len(mass)).index_add(
            0, torch.tensor(listed["truth"]), torch.tensor(listed["positive"]) * 1.0
        )
        torch.testing.assert_close(sums, mass, rtol=1e-2, atol=1e-3, check_dtype=False)
        lengths = {len(listed[key]) for key in ("point", "truth", "positive", "negative")}
        assert lengths == {len(listed["prior"] or listed["point"])}


def test_the_own_method_uses_what_it_learned(split: Split, tmp_path: Path) -> None:
    learned = look("autoassign", split, tmp_path).views["autoassign"]
    checkpoint = load_checkpoint(tmp_path / "best.pt")
    checkpoint.weights["method.mu"].add_(1.5)
    moved = explore(checkpoint, split, crowded(split), ["autoassign"], 0.5).views["autoassign"]
    assert moved.explanation.quantities["mu_x"] == pytest.approx(learned.explanation.quantities["mu_x"] + 1.5)
    assert learned.explanation.prior is not None
    assert moved.explanation.prior is not None
    assert (moved.explanation.prior - learned.explanation.prior).abs().max() > 0.1
    other = look("fcos", split, tmp_path).views["autoassign"]
    assert other.explanation.quantities["mu_x"] == 0


@pytest.mark.parametrize("own", METHODS)
def test_boxes_survive_recoding(own: str, split: Split, tmp_path: Path) -> None:
    checkpoint = make_checkpoint(own, tmp_path / "best.pt")
    detector = checkpoint.detector()
    image_u8 = np.random.default_rng(0).integers(0, 255, (96, 128, 3), np.uint8)
    with torch.no_grad():
        points, predictions = predict(detector, image_u8)
        before = detector.method.all_boxes(predictions, points)
        for name in METHODS:
            method = make_method(name, len(SHAPES))
            its = make_points(points.shapes_hw, points.strides, method.point_offset)
            after = method.all_boxes(recoded(predictions, detector.method, points, method, its), its)
            torch.testing.assert_close(after, before, rtol=0, atol=1e-3)


def test_soft_labels_fade_for_o2f_and_ala_alone(split: Split, tmp_path: Path) -> None:
    views = look("dw", split, tmp_path).views
    assert [name for name, view in views.items() if view.fading is not None] == ["o2f", "ala"]
    for name in ("o2f", "ala"):
        fading = views[name].fading
        assert fading is not None
        assert sum(len(curves.points) for curves in fading.values()) > 0
        for curves in fading.values():
            assert len(curves.points) <= 8
            assert all(len(weights) == len(STEPS) for weights in curves.weights)
            assert all(weights == sorted(weights, reverse=True) for weights in curves.weights)


def test_the_chosen_progress_is_shown(split: Split, tmp_path: Path) -> None:
    early, late = (look("fcos", split, tmp_path, progress).views["o2f"].explanation for progress in (0.0, 1.0))
    assert early.quantities["temperature"] == pytest.approx(0.6)
    assert late.quantities["temperature"] == pytest.approx(0.2)


@pytest.fixture
def hard_data(tmp_path: Path) -> Path:
    """A picture with two boxes of the same place and size, the second of which FCOS gives nothing; one without any."""
    folder = tmp_path / "hard"
    (folder / "annotations").mkdir(parents=True)
    boxes = [[20, 20, 40, 40], [20, 20, 40, 40], [90, 60, 20, 20]]
    content = {
        "images": [
            {"id": i, "file_name": f"{name}.jpg", "width": 128, "height": 96}
            for i, name in ((7, "twins"), (8, "empty"))
        ],
        "annotations": [
            {"id": i, "image_id": 7, "category_id": SHAPES[i % 2].id, "bbox": box, "area": box[2] * box[3]}
            for i, box in enumerate(boxes)
        ],
        "categories": [{"id": c.id, "name": c.name} for c in SHAPES],
    }
    for split in ("train", "val"):
        (folder / split).mkdir()
        for i, name in enumerate(("twins", "empty")):
            encode_image(folder / split / f"{name}.jpg", np.full((96, 128, 3), 90 + 40 * i, np.uint8))
        (folder / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))
    return folder


def test_starved_truths_are_listed(
    hard_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    make_checkpoint("fcos", tmp_path / "best.pt")
    arguments = ["assign", "--model", "best.pt", "--data", str(hard_data), "--image", "7"]
    assert main([*arguments, "--json", "--methods", "fcos,paa"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["page"] == "assign-twins.html"
    assert [truth["mass"]["fcos"] > 0 for truth in found["truths"]] == [True, False, True]
    assert "fcos" in found["truths"][1]["starved"]
    assert found["truths"][1]["size"] == "M"
    assert found["truths"][2]["size"] == "S"
    assert (found["truths"][2]["width_px"], found["truths"][2]["height_px"]) == (20, 20)
    assert set(found["quantities"]) == {"fcos", "paa"}
    data = json.loads(read(Path("assign-twins.html").read_text()).data)
    assert data["truths"][1]["starved"] == found["truths"][1]["starved"]
    assert main([*arguments, "--methods", "fcos", "--out", "page.html"]) == 0
    printed = capsys.readouterr().out
    assert "1 of 3" in printed
    assert f"1 {SHAPES[1].name} 40x40 M" in printed
    assert Path("page.html").exists()


def test_a_picture_without_truths(hard_data: Path, tmp_path: Path) -> None:
    split = load_split(hard_data, "val")
    checkpoint = make_checkpoint("ala", tmp_path / "best.pt")
    text = render(explore(checkpoint, split, find_record(split, "empty"), tuple(METHODS), 0.5))
    assert "no truth to train on" in text
    assert json.loads(read(text).data)["truths"] == []


def test_a_picture_by_id_or_name(hard_data: Path) -> None:
    split = load_split(hard_data, "val")
    for wanted in ("7", "twins.jpg", "twins", "val/twins.jpg", "elsewhere/twins.jpg"):
        assert find_record(split, wanted).image_id == 7
    with pytest.raises(BadInput, match=r"twin\.jpg: not among the 2 images of split 'val'.*twins\.jpg"):
        find_record(split, "twin.jpg")


def test_another_data_set_is_refused(split: Split, tmp_path: Path) -> None:
    checkpoint = make_checkpoint("fcos", tmp_path / "best.pt")
    other = Split(split.name, split.categories[:1], split.records)
    with pytest.raises(BadInput, match="categories"):
        explore(checkpoint, other, split.records[0], ["fcos"], 0.5)


@pytest.mark.parametrize("image", ["twins", "empty"])
def test_the_script_runs_in_a_browser(image: str, hard_data: Path, tmp_path: Path) -> None:
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        pytest.skip("no chromium on PATH")
    split = load_split(hard_data, "val")
    exploration = explore(
        make_checkpoint("ala", tmp_path / "best.pt"), split, find_record(split, image), tuple(METHODS), 0.5
    )
    page = tmp_path / "page.html"
    page.write_text(render(exploration))
    flags = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    flags += "--disable-component-update --disable-sync --virtual-time-budget=10000"
    command = [chromium, *flags.split(), f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom"]
    shown = subprocess.run(
        [*command, f"file://{page}#truth=0"], capture_output=True, text=True, timeout=120, check=True
    )
    root = re.search(r"<html[^>]*>", shown.stdout)
    assert root is not None
    assert "data-error" not in root[0]
    assert 'data-ready="1"' in root[0]
    assert shown.stdout.count("<canvas") == len(METHODS) * 5 + 2 * 5
    truths = len(page_data(exploration)["truths"])
    assert shown.stdout.count('<tr class="chosen"') == min(truths, 1)
    assert shown.stdout.count("points, highest") >= (1 if truths else 0)
