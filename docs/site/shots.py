"""What the images of the documentation are made with: parts of pages in a headless Chromium, and small files."""

from __future__ import annotations

import base64
import html
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from chromium import Chromium

MOST_BYTES = 150_000
_HEIGHT_PX = 5000  # of the window: whole pages, so that nothing moves, or waits until it is scrolled to
_PAGE = """<!doctype html><meta charset="utf-8"><style>
body {{ margin: 0; font: 15px/1.45 system-ui, sans-serif; color: #16202c; background: #f5f7fa }}
#shot {{ display: inline-block; padding: 18px }}
pre {{ margin: 0; padding: 14px 18px; font: 13px/1.35 "DejaVu Sans Mono", monospace; color: #d7dee7;
      background: #17212b; border-radius: 8px }}
pre b {{ color: #7fc8a9; font-weight: 600 }}
.row {{ display: flex; gap: 18px; align-items: stretch }}
.row > img {{ border-radius: 8px; border: 1px solid #d5dce4 }}
.box {{ padding: 10px 14px; background: #fff; border: 1px solid #c6d0da; border-radius: 8px }}
.box b {{ display: block }}
.box code, .ends code {{ color: #46586a }}
.ends {{ display: grid; gap: 8px; align-content: center }}
.arrow {{ align-self: center; font-size: 24px; color: #74859a }}
</style><div id="shot">{content}</div>"""


def write_small(path: Path, image_bgr_u8: npt.NDArray[np.uint8], width_px: int | None = None) -> None:
    """A WebP below the limit of a file; shrunk to a width where it is wider."""
    if width_px is not None and image_bgr_u8.shape[1] > width_px:
        height_px = round(image_bgr_u8.shape[0] * width_px / image_bgr_u8.shape[1])
        image_bgr_u8 = cv2.resize(image_bgr_u8, (width_px, height_px), interpolation=cv2.INTER_AREA).astype(np.uint8)
    for quality in (86, 78, 70, 60, 50):
        data = cv2.imencode(".webp", image_bgr_u8, [cv2.IMWRITE_WEBP_QUALITY, quality])[1].tobytes()
        if len(data) <= MOST_BYTES:
            path.write_bytes(data)
            return
    raise ValueError(f"{path.name}: {len(data)} bytes at the lowest quality, expected at most {MOST_BYTES}")


def read(path: Path) -> npt.NDArray[np.uint8]:
    image = cv2.imread(str(path))
    assert image is not None, path
    return np.asarray(image, np.uint8)


def capture(
    browser: Chromium,
    *selectors: str,
    width_px: int = 1000,
    most_px: int = 1500,
    height_px: int = _HEIGHT_PX,
    margin_px: int = 10,
) -> npt.NDArray[np.uint8]:
    """The part of the open page from the first element to the last, at most ``most_px`` high; BGR."""
    window = {"width": width_px, "height": height_px, "deviceScaleFactor": 1, "mobile": False}
    browser.call("Emulation.setDeviceMetricsOverride", **window)
    browser.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "light"}])
    browser.run("new Promise((done) => setTimeout(done, 800))")
    chosen = ", ".join(repr(selector) for selector in selectors)
    left, top, right, bottom = browser.run(
        f"(() => {{ const all = [{chosen}].map((s) => document.querySelector(s).getBoundingClientRect());"
        "return [Math.min(...all.map((r) => r.left)), Math.min(...all.map((r) => r.top)) + scrollY,"
        "Math.max(...all.map((r) => r.right)), Math.max(...all.map((r) => r.bottom)) + scrollY] })()"
    )
    x, y = max(0.0, left - margin_px), max(0.0, top - margin_px)
    clip = {
        "x": x,
        "y": y,
        "width": min(width_px, right + margin_px) - x,
        "height": min(bottom + margin_px - y, most_px),
        "scale": 1,
    }
    data = browser.call("Page.captureScreenshot", clip=clip)["data"]
    image = cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    return np.asarray(image, np.uint8)


def capture_html(browser: Chromium, content: str, folder: Path, width_px: int = 1000) -> npt.NDArray[np.uint8]:
    """A piece of HTML, whose images lie in ``folder``."""
    page = folder / "page.html"
    page.write_text(_PAGE.format(content=content), encoding="utf-8")
    browser.open(page.resolve().as_uri())
    return capture(browser, "#shot", width_px=width_px, margin_px=0)


def terminal(command: str, output: str) -> str:
    """HTML of a command and what it printed."""
    return f"<pre><b>$ {html.escape(command)}</b>\n{html.escape(output.rstrip())}</pre>"
