"""The page in a real browser, from a plain web server: it finds what the runtime finds, and says so."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import onnx
import pytest
from chromium import EXECUTABLE, Chromium
from made_once import shared_folder
from npm import packed
from onnx import numpy_helper
from same_detections import require_same
from web_page import found_in

from aweigh.export.jobs.web import write_web
from aweigh.runtime import Detector
from aweigh.runtime.results.detections import Detections

pytestmark = pytest.mark.skipif(EXECUTABLE is None, reason="no Chromium on this machine")

_AXE = "axe-core@4.14.1"
_START_S = 120


@pytest.fixture(scope="module")
def browser() -> Iterator[Chromium]:
    with Chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def page(site: Path, images: list[Path], served: Callable[[Path], str]) -> Iterator[Chromium]:
    """Opened once: 14 MB of WebAssembly are compiled first."""
    with Chromium() as browser:
        yield opened(browser, served(site))


def opened(browser: Chromium, url: str) -> Chromium:
    browser.open("about:blank")
    browser.problems.clear()
    browser.requested.clear()
    browser.open(url)
    browser.wait("document.getElementById('health').className !== ''", _START_S)
    return browser


def text(page: Chromium, name: str) -> str:
    return str(page.run(f"document.getElementById({json.dumps(name)}).textContent"))


def verdict(page: Chromium) -> str:
    return str(page.run("document.getElementById('verdict').className"))


def choose(page: Chromium, path: Path) -> None:
    page.run("document.getElementById('results').hidden = true")
    page.choose_file("#file", path)
    page.wait("!document.getElementById('results').hidden", _START_S)


def test_it_finds_what_the_runtime_finds(page: Chromium, images: list[Path], expected: list[Detections]) -> None:
    urls = [f"images/{path.name}" for path in images]
    result = found_in(page, urls)
    assert result["opened"]["value"]["verdict"]["passed"]
    threshold = result["opened"]["value"]["model"]["score_threshold"]
    counts = [
        require_same(answer["value"], detections, threshold)
        for answer, detections in zip(result["answers"], expected, strict=True)
    ]
    assert len(counts) == 20
    assert sum(counts) > 100


def test_the_page_says_that_it_computes_what_the_trained_model_found(page: Chromium, site: Path) -> None:
    assert verdict(page) == "verdict passed"
    assert text(page, "verdict-title") == "This browser computes what the trained model found"
    assert text(page, "verdict-text").startswith("1 golden image, ")
    assert text(page, "health") == "ready"
    assert page.problems == []
    origin = page.run("location.origin")
    assert page.requested
    assert all(url.startswith((origin, "blob:", "data:")) for url in page.requested), "nothing from elsewhere"


def test_an_image_is_drawn_and_listed(page: Chromium, images: list[Path], expected: list[Detections]) -> None:
    """With the thresholds that aweigh predict draws with: the best of each class, 0.3 where there is none."""
    choose(page, images[0])
    assert text(page, "score-value") == "best"
    assert page.run("[document.getElementById('canvas').width, document.getElementById('canvas').height]") == [320, 256]
    best = {c["id"]: c["best_score"] for c in json.loads((images[0].parents[1] / "model.json").read_text())["classes"]}
    floors = {number: 0.3 if score is None else score for number, score in best.items()}
    drawn = [
        f"{score:.2f}"
        for number, score in zip(expected[0].cls.tolist(), expected[0].conf.tolist(), strict=True)
        if score > floors[number]
    ]
    listed = page.run("[...document.querySelectorAll('#list button')].map((b) => b.lastChild.textContent)")
    assert drawn
    assert listed == drawn
    stages = page.run("[...document.querySelectorAll('#timing dt')].map((d) => d.textContent)")
    assert stages == ["decode", "preprocess", "network", "postprocess", "transfer", "in all"]
    page.run(
        "(() => { const s = document.getElementById('score'); s.value = 0.99; s.dispatchEvent(new Event('input')); })()"
    )
    assert text(page, "summary") == "Nothing above this score"
    page.run("document.getElementById('best').click()")


def test_files_that_are_no_images_are_errors_in_words(page: Chromium, images: list[Path], tmp_path: Path) -> None:
    choose(page, images[0])
    before = text(page, "summary")
    for name, content, said in (
        ("notes.txt", b"not an image", "notes.txt is not an image that this browser can read"),
        ("cut.png", images[0].read_bytes()[:20], "cut.png is not an image that this browser can read"),
        ("empty.png", b"", "The file is empty (0 bytes)."),
    ):
        (tmp_path / name).write_bytes(content)
        page.choose_file("#file", tmp_path / name)
        page.wait(f"document.getElementById('error').textContent.includes({json.dumps(said)})")
        assert text(page, "summary") == before, "the image before stays"
    page.choose_file("#file", images[1])
    page.wait("document.getElementById('error').hidden")


def test_the_camera_is_looked_at_until_it_is_stopped(page: Chromium) -> None:
    page.run("document.getElementById('camera').click()")
    page.wait("document.getElementById('canvas').width > 300", _START_S)
    page.wait("document.getElementById('camera').getAttribute('aria-pressed') === 'true'")
    first = page.run("document.querySelector('#timing .total + .total').textContent")
    page.wait(f"document.querySelector('#timing .total + .total').textContent !== {json.dumps(first)}", _START_S)
    page.run("document.getElementById('camera').click()")
    page.wait("document.getElementById('camera').getAttribute('aria-pressed') === 'false'")
    assert page.problems == []


def test_keyboard_and_screen_readers(
    page: Chromium, images: list[Path], tmp_path_factory: pytest.TempPathFactory
) -> None:
    choose(page, images[0])
    axe = packed(_AXE, shared_folder(tmp_path_factory, "npm"), "axe.min.js") / "axe.min.js"
    page.run(axe.read_text(encoding="utf-8") + "; 0")
    found = page.run("axe.run(document).then((r) => r.violations.map((v) => [v.id, v.nodes.map((n) => n.html)]))")
    assert found == []
    reached: list[str] = []
    while len(reached) < 30 and "best" not in reached:
        page.press("Tab", "Tab")
        reached.append(page.run("document.activeElement.id"))
    assert [name for name in reached if name in ("file", "choose", "camera", "score", "best")] == [
        "file", "choose", "camera", "score", "best",
    ]  # fmt: skip


def negated(model: Path, path: Path) -> Path:
    """The file with the weights of its first convolution negated; the golden images stay those of the trained model."""
    changed = onnx.load(str(model))
    first = next(node for node in changed.graph.node if node.op_type == "Conv")
    weights = next(tensor for tensor in changed.graph.initializer if tensor.name == first.input[1])
    weights.CopyFrom(numpy_helper.from_array(-numpy_helper.to_array(weights), weights.name))
    onnx.save(changed, str(path))
    return path


def test_a_layer_that_computes_otherwise_turns_the_verdict_red(
    browser: Chromium, model: Path, ort_web: Path, served: Callable[[Path], str], tmp_path: Path
) -> None:
    broken = negated(model, tmp_path / "negated.onnx")
    with Detector(broken, self_test=False) as detector:
        here: Any = detector.self_test()
    assert not here.passed
    page = opened(browser, served(write_web(broken, tmp_path / "site", ort_web).artifact))
    assert verdict(page) == "verdict failed"
    assert text(page, "verdict-title") == "This browser computes otherwise than the trained model"
    counts = f"{here.detections} detections: {here.lost} lost, {here.new} new, {here.relabelled} relabelled"
    assert counts in text(page, "verdict-text"), "the numbers of the runtime's self-test"


def test_a_folder_that_was_copied_in_part(
    browser: Chromium, site: Path, served: Callable[[Path], str], tmp_path: Path
) -> None:
    folder = shutil.copytree(site, tmp_path / "site", copy_function=lambda a, b: Path(b).symlink_to(a))
    model = folder / "model.onnx"
    content = model.read_bytes()
    for damaged, said in (
        (content[:-9], "model.onnx is not the file that this page was made for"),
        (content[:-1] + bytes([content[-1] ^ 1]), "model.onnx is not the file that this page was made for"),
        (None, "model.onnx could not be loaded: the server answers 404"),
    ):
        model.unlink()
        if damaged is not None:
            model.write_bytes(damaged)
        page = opened(browser, served(folder))
        assert said in text(page, "error")
        assert text(page, "health") == "not ready"
        assert verdict(page) == "verdict failed"
