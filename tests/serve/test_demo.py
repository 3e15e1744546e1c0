"""The demo page in a real browser."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from chromium import EXECUTABLE, Chromium
from server_process import TOKEN, Server, jpeg, write_model

from aweigh.runtime.images.palette import class_colour

pytestmark = pytest.mark.skipif(EXECUTABLE is None, reason="no Chromium on this machine")

# left half (id 17) and whole (id 3) of the red box, in pixels of the picture of 192x128
WHOLE = (20, 30, 100, 90)


@pytest.fixture(scope="module")
def browser() -> Iterator[Chromium]:
    with Chromium() as browser:
        yield browser


@pytest.fixture
def page(browser: Chromium, server: Server) -> Chromium:
    browser.open(f"{server.http}/")
    browser.problems.clear()
    browser.wait("document.querySelectorAll('#classes input').length === 2")
    return browser


@pytest.fixture
def file(tmp_path: Path, picture: npt.NDArray[np.uint8]) -> Path:
    path = tmp_path / "red.png"
    path.write_bytes(jpeg(picture, ".png"))
    return path


def pixel(page: Chromium, x: int, y: int) -> list[int]:
    found = page.run(f"[...document.getElementById('canvas').getContext('2d').getImageData({x}, {y}, 1, 1).data]")
    return list(found)[:3]


def shown(page: Chromium) -> list[str]:
    return list(page.run("[...document.querySelectorAll('#list button')].map((b) => b.innerText.split('\\n')[0])"))


def upload(page: Chromium, file: Path) -> None:
    page.choose_file("#file", file)
    page.wait("!document.getElementById('results').hidden")


def set_score(page: Chromium, value: float) -> None:
    page.run(f"(() => {{ const s = document.getElementById('score'); s.value = {value};"
             "s.dispatchEvent(new Event('input')); })()")  # fmt: skip


def test_upload_draws_boxes_in_the_right_pixels(page: Chromium, server: Server, file: Path) -> None:
    upload(page, file)
    set_score(page, 0.6)
    assert shown(page) == ["whole"]
    with server.client() as client:
        content = file.read_bytes()
        answer = client.post("/v1/models/red/detect", content=content, headers={"Content-Type": "image/png"})
    left, top, right, bottom = (round(v) for v in answer.json()["detections"][0]["box"])
    np.testing.assert_allclose((left, top, right, bottom), WHOLE, atol=2)
    assert page.run("[document.getElementById('canvas').width, document.getElementById('canvas').height]") == [192, 128]
    colour = list(class_colour(1))  # of the second category, id 3
    middle_y, middle_x = (top + bottom) // 2, (left + right) // 2
    for x, y in ((left, middle_y), (right, middle_y), (middle_x, bottom)):
        near = [pixel(page, x + dx, y + dy) for dx in (-1, 0) for dy in (-1, 0)]
        assert any(np.abs(np.subtract(found, colour)).max() <= 8 for found in near), (x, y, near)
    assert pixel(page, middle_x, middle_y) == [255, 0, 0]
    assert pixel(page, 5, 120) == [60, 60, 60]
    assert page.problems == []


def test_thresholds_and_classes_work_without_asking_again(page: Chromium, file: Path) -> None:
    upload(page, file)
    page.requested.clear()
    set_score(page, 0.3)
    assert shown(page) == ["whole", "left half"]
    assert "1 whole, 1 left half" in page.run("document.getElementById('summary').textContent")
    page.run("document.querySelectorAll('#classes input')[1].click()")
    assert shown(page) == ["left half"]
    set_score(page, 0.99)
    assert shown(page) == []
    assert page.run("document.getElementById('summary').textContent") == "Nothing above this score"
    assert not [url for url in page.requested if "/detect" in url]
    stages = page.run("[...document.querySelectorAll('#timing dt')].map((d) => d.textContent)")
    assert stages == ["decode", "preprocess", "queue", "network", "postprocess", "transfer", "in all"]


def test_the_best_thresholds_hold_until_a_score_is_chosen(
    browser: Chromium, start: Callable[..., Server], tmp_path: Path, file: Path
) -> None:
    """Of the left half the best threshold, 0.7, lies above its score, 0.5."""
    path = write_model(tmp_path / "red.onnx", best_conf=(0.7, 0.2))
    server = start("--model", f"red={path}", "--grpc-port", "-1")
    browser.open(f"{server.http}/")
    browser.wait("document.querySelectorAll('#classes input').length === 2")
    upload(browser, file)
    assert browser.run("document.getElementById('score-value').textContent") == "best"
    assert shown(browser) == ["whole"]
    set_score(browser, 0.3)
    assert not browser.run("document.getElementById('best').checked")
    assert shown(browser) == ["whole", "left half"]
    browser.run("document.getElementById('best').click()")
    assert shown(browser) == ["whole"]


def test_a_file_without_best_thresholds_does_not_offer_them(page: Chromium) -> None:
    assert page.run("document.getElementById('best-field').hidden")
    assert page.run("document.getElementById('score-value').textContent") == "0.30"


def test_labels_at_one_place_do_not_cover_each_other(page: Chromium, file: Path) -> None:
    """Both boxes begin at the same corner."""
    upload(page, file)
    set_score(page, 0.3)
    colour = class_colour(0)
    of_both = coloured(page, colour)
    page.run("document.querySelectorAll('#classes input')[1].click()")  # without the whole, whose box lies on top
    assert shown(page) == ["left half"]
    edges = 2 * 2 * (WHOLE[3] - WHOLE[1] + (WHOLE[2] - WHOLE[0]) // 2)
    assert coloured(page, colour) > edges + 300  # with its label
    assert of_both > coloured(page, colour) - edges


def coloured(page: Chromium, colour: tuple[int, int, int]) -> int:
    """Pixels of the canvas that have the colour."""
    return int(page.run(
        "(() => { const c = document.getElementById('canvas');"
        "const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data; let n = 0;"
        f"for (let i = 0; i < d.length; i += 4) n += [{','.join(map(str, colour))}].every((v, k) => d[i + k] === v);"
        "return n; })()"
    ))  # fmt: skip


def test_a_text_file_is_an_error_in_words_and_the_picture_stays(page: Chromium, file: Path, tmp_path: Path) -> None:
    upload(page, file)
    (tmp_path / "notes.txt").write_text("not a picture")
    page.choose_file("#file", tmp_path / "notes.txt")
    page.wait("!document.getElementById('error').hidden")
    assert "not an image" in page.run("document.getElementById('error').textContent")
    assert page.run("document.getElementById('error').getAttribute('role')") == "alert"
    assert shown(page) == ["whole", "left half"]
    upload(page, file)
    page.wait("document.getElementById('error').hidden")


def drop(kind: str) -> str:
    """A script that gives the page a picture of its own making by an event of the kind."""
    return f"""(async () => {{
      const canvas = new OffscreenCanvas(192, 128), context = canvas.getContext("2d");
      context.fillStyle = "rgb(255 0 0)"; context.fillRect(20, 30, 80, 60);
      const file = new File([await canvas.convertToBlob()], "x.png", {{ type: "image/png" }});
      const data = new DataTransfer(); data.items.add(file);
      const event = {json.dumps(kind)} === "paste"
        ? new ClipboardEvent("paste", {{ clipboardData: data, bubbles: true }})
        : new DragEvent("drop", {{ dataTransfer: data, bubbles: true, cancelable: true }});
      document.body.dispatchEvent(event);
    }})()"""


@pytest.mark.parametrize("kind", ["paste", "drop"])
def test_paste_and_drop(page: Chromium, kind: str) -> None:
    page.run(drop(kind))
    page.wait("!document.getElementById('results').hidden")
    assert shown(page) == ["whole", "left half"]


def test_the_camera_is_looked_at_until_it_is_stopped(page: Chromium) -> None:
    page.run("document.getElementById('camera').click()")
    page.wait("document.getElementById('canvas').width > 300")
    page.requested.clear()
    page.wait("document.getElementById('camera').getAttribute('aria-pressed') === 'true'")
    page.wait("performance.getEntriesByType('resource').filter((e) => e.name.includes('/detect')).length >= 3")
    page.run("document.getElementById('camera').click()")
    page.wait("document.getElementById('camera').getAttribute('aria-pressed') === 'false'")
    assert page.problems == []


def test_the_keyboard_reaches_everything(page: Chromium, file: Path) -> None:
    upload(page, file)
    reached: list[str] = []
    while len(reached) < 30 and reached[-1:] != ["button"]:
        page.press("Tab", "Tab")
        reached.append(page.run("document.activeElement.id || document.activeElement.tagName.toLowerCase()"))
    assert [name for name in reached if name in ("file", "choose", "camera", "model", "score")] == [
        "file", "choose", "camera", "model", "score",
    ]  # fmt: skip
    assert "button" in reached  # of the list of detections
    tree = page.call("Accessibility.getFullAXTree")["nodes"]
    unnamed = [node for node in tree if control(node) and not node.get("name", {}).get("value")]
    assert unnamed == []


def control(node: dict[str, Any]) -> bool:
    roles = ("button", "combobox", "slider", "checkbox", "link", "textbox", "image")
    return not node["ignored"] and node.get("role", {}).get("value") in roles


def test_a_guarded_server_asks_for_its_token(
    browser: Chromium, start: Callable[..., Server], red_model: Path, file: Path
) -> None:
    server = start("--model", str(red_model), "--grpc-port", "-1", token=TOKEN)
    browser.open(f"{server.http}/")
    browser.wait("!document.getElementById('access').hidden")
    browser.run(f"document.getElementById('token').value = '{TOKEN}'")
    browser.run("document.querySelector('#access button').click()")
    browser.wait("document.querySelectorAll('#classes input').length === 2")
    assert browser.run("document.getElementById('access').hidden")
    upload(browser, file)
    assert shown(browser) == ["whole", "left half"]
    assert TOKEN not in "".join(browser.requested)


def test_the_interface_page_is_drawn_offline(browser: Chromium, server: Server) -> None:
    browser.requested.clear()
    browser.problems.clear()
    browser.open(f"{server.http}/docs")
    browser.wait("document.querySelectorAll('.opblock').length >= 12")
    assert browser.problems == []
    assert browser.requested
    assert all(url.startswith((server.http, "data:", "blob:")) for url in browser.requested)


def test_exif_turns_picture_and_boxes_alike(page: Chromium, tmp_path: Path, picture: npt.NDArray[np.uint8]) -> None:
    done, encoded = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    assert done
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    data = encoded.tobytes()
    turned = tmp_path / "turned.jpg"
    turned.write_bytes(data[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + data[2:])
    upload(page, turned)
    set_score(page, 0.6)
    assert page.run("[document.getElementById('canvas').width, document.getElementById('canvas').height]") == [128, 192]
    # Turned clockwise by a quarter, the middle of the box lies at (128 - 60, 60).
    red, green, blue = pixel(page, 68, 60)
    assert red > 200 > 60 > max(green, blue)
