"""aweigh inspect --html: one page that needs nothing else, and is moved by nothing that a file says."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from aweigh.runtime.card.model_page import model_page
from aweigh.runtime.cli.main import main
from aweigh.runtime.files.digest import file_sha256, receipt_path
from aweigh.runtime.inspection import inspect_model
from aweigh.runtime.spec import Category

pytestmark = pytest.mark.usefixtures("only_runtime_verbs")
EVIL = '"><script>alert(1)</script>&<img src=x onerror=alert(1)>'


class Page(HTMLParser):
    """Tags with their attributes, and the text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text.append(" ".join(data.split()))

    def sources(self) -> list[str]:
        return [value or "" for _, attrs in self.tags for name, value in attrs.items() if name in ("src", "href")]


def test_the_page_has_what_the_table_has(make_model: Callable[..., Path], golden: Callable[..., str]) -> None:
    path = make_model("best.onnx", golden=golden(), best_conf=(0.25, None))
    page = Page(model_page(inspect_model(path)))
    for words in (
        "best.onnx",
        "images",
        "num_dets",
        "left half",
        "0.250",
        "no receipt",
        "letterbox 64x96 (height x width)",
    ):
        assert any(words in text for text in page.text), words
    assert any(file_sha256(path) in text for text in page.text)


def test_golden_images_are_drawn_into_the_page(make_model: Callable[..., Path], golden: Callable[..., str]) -> None:
    page = Page(model_page(inspect_model(make_model(golden=golden()))))
    sources = page.sources()
    assert len(sources) == 2
    assert all(source.startswith("data:image/jpeg;base64,") for source in sources)
    drawn = cv2.imdecode(np.frombuffer(base64.b64decode(sources[0].partition(",")[2]), np.uint8), cv2.IMREAD_COLOR)
    assert drawn is not None
    assert drawn.shape[:2] == (6 * 64, 6 * 96)  # enlarged, so that names can be read
    green = (drawn.astype(int)[:, :, 1] > 150) & (drawn.astype(int)[:, :, 2] < 120)  # the colour of the second class
    rows, columns = np.flatnonzero(green.any(1)), np.flatnonzero(green.any(0))
    assert abs(columns.max() - 6 * 50) <= 12
    assert abs(rows.max() - 6 * 40) <= 12
    assert "red at 10, 8: 2 of 2 detections drawn" in page.text


@pytest.mark.parametrize(
    ("verdict", "own", "stamp"),
    [
        ("passed", True, "passed"),
        ("failed", True, "failed"),
        ("passed", False, "no receipt"),
        (EVIL, True, "no receipt"),
    ],
)
def test_the_stamp_is_that_of_the_receipt_of_this_file(verdict: str, own: bool, stamp: str, model: Path) -> None:
    sha256 = file_sha256(model) if own else "0" * 64
    receipt_path(model).write_text(json.dumps({"verdict": verdict, "sha256": sha256}))
    page = Page(model_page(inspect_model(model)))
    assert page.text[page.text.index(stamp)] == stamp
    assert "script" not in {tag for tag, _ in page.tags}


def test_what_the_file_says_stays_text(make_model: Callable[..., Path], golden: Callable[..., str]) -> None:
    images = json.loads(golden())
    images["pictures"][0]["name"] = EVIL
    path = make_model(
        f"{EVIL.replace('/', '_')}.onnx",
        categories=(Category(17, EVIL), Category(3, "<b>whole</b>")),
        golden=json.dumps(images),
        method=EVIL,
        architecture=EVIL,
        parents={EVIL: EVIL},
        versions={"aweigh": EVIL},
    )
    page = Page(model_page(inspect_model(path)))
    assert {"script", "b"} & {tag for tag, _ in page.tags} == set()
    assert not any(name.startswith("on") for _, attrs in page.tags for name in attrs)
    assert all(source.startswith("data:image/jpeg;base64,") for source in page.sources())
    assert sum(EVIL in text for text in page.text) >= 3


def test_the_page_loads_nothing(make_model: Callable[..., Path], golden: Callable[..., str]) -> None:
    html = model_page(inspect_model(make_model(golden=golden())))
    assert not re.search(r"https?:|url\(|@import|<link|<script", html)


def test_files_without_detections_in_their_golden_images(
    make_model: Callable[..., Path], golden: Callable[..., str]
) -> None:
    html = model_page(inspect_model(make_model(post={"kind": "raw"}, golden=golden())))
    assert "red at 10, 8: points, no detections" in html
    assert "Golden images" not in model_page(inspect_model(make_model("none.onnx")))


def test_an_engine_has_its_own_section(make_engine: Callable[..., Path]) -> None:
    page = Page(model_page(inspect_model(make_engine())))
    assert "Engine" in page.text
    assert "Graph" not in page.text


@pytest.mark.parametrize(
    "outputs",
    [
        {"boxes": [[0, 0, 1, 1]], "scores": [1.0], "labels": [7]},
        {"boxes": [[0, 0, 1, 1]], "scores": [1.0], "labels": [-1]},
        {"boxes": [[0, 0, 1, 1]], "scores": [1.0, 0.5], "labels": [0]},
        {"boxes": [["x", 0, 1, 1]], "scores": [1.0], "labels": [0]},
        {"boxes": [[0, 0, 1e400, 1]], "scores": [1.0], "labels": [0]},
        {"boxes": [[0, 0, 1]], "scores": [1.0], "labels": [0]},
        {},
    ],
)
def test_golden_images_that_are_none_leave_no_page(
    outputs: dict[str, Any],
    make_model: Callable[..., Path],
    golden: Callable[..., str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    images = json.loads(golden())
    images["pictures"][0]["outputs"] = outputs
    path, out = make_model(golden=json.dumps(images)), tmp_path / "page.html"
    assert main(["inspect", "--model", str(path), "--html", str(out)]) == 2
    assert "golden images: " in capsys.readouterr().err
    assert not out.exists()


def test_the_verb_writes_the_page_and_prints_as_before(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["inspect", "--model", str(model), "--json"]) == 0
    printed = capsys.readouterr().out
    out = tmp_path / "pages" / "model.html"
    assert main(["inspect", "--model", str(model), "--json", "--html", str(out)]) == 0
    assert capsys.readouterr().out == printed
    assert out.read_text(encoding="utf-8") == model_page(inspect_model(model))
