"""More images of the documentation: what a video, crops and a notebook look like, and drawings that explain words."""

from __future__ import annotations

import html
import json
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import numpy.typing as npt
from shots import capture, capture_html, read

from aweigh.runtime import Detector

if TYPE_CHECKING:
    from chromium import Chromium
    from pictures import Studio

Image = npt.NDArray[np.uint8]
ROOT = Path(__file__).parents[2]
WHITE, BLUE, ORANGE, GREY = (255, 255, 255), (165, 110, 59), (50, 128, 217), (166, 151, 138)  # BGR
FRAMES, FRAMES_PER_S, STEP_PX = 24, 10, 16


def inspect_page(studio: Studio, browser: Chromium) -> Image:
    """Verdict, inputs and outputs, classes, on the page of ``aweigh inspect --html``."""
    studio.run("inspect", "--model", studio.export().name, "--html", "inspect.html", made="inspect.html")
    browser.open((studio.work / "inspect.html").as_uri())
    return capture(browser, ".verdict", ".card:nth-of-type(3)", most_px=1000)


def clip(studio: Studio) -> Path:
    """A camera that moves over three images side by side, 640x480."""
    path = studio.work / "clip.avi"
    wide = np.concatenate([read(image) for image in studio.images[6:9]], axis=1)
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"MJPG"), FRAMES_PER_S, (640, 480))
    for i in range(FRAMES):
        writer.write(np.ascontiguousarray(wide[:, 300 + STEP_PX * i :][:, :640]))
    writer.release()
    return path


def side_by_side(images: list[Image], gap_px: int = 14) -> Image:
    gap = np.full((images[0].shape[0], gap_px, 3), 255, np.uint8)
    parts = [part for image in images for part in (gap, image)][1:]
    return np.concatenate(parts, axis=1)


def bgr(image: Image) -> Image:
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2BGR), np.uint8)


def video(studio: Studio, _: Chromium) -> Image:
    """Three frames of a video, eight apart, as ``aweigh predict`` draws them."""
    with Detector(str(studio.export()), threads=1) as detector:
        frames = [bgr(found.plot()) for i, found in enumerate(detector.stream(str(clip(studio)))) if i % 8 == 0]
    return side_by_side(frames[:3])


def track(studio: Studio, _: Chromium) -> Image:
    """The last frame, and where each object was before: needs supervision and trackers."""
    from trackers import ByteTrackTracker

    tracker = ByteTrackTracker(frame_rate=FRAMES_PER_S, track_activation_threshold=0.4, high_conf_det_threshold=0.4)
    paths: dict[int, list[tuple[int, int, int]]] = defaultdict(list)
    with Detector(str(studio.export()), threads=1) as detector:
        for i, found in enumerate(detector.stream(str(clip(studio)), conf=0.1)):
            tracked = tracker.update(found.filter(classes=["RBC"]).to_supervision())
            for number, (x1, y1, x2, y2) in zip(tracked.tracker_id.tolist(), tracked.xyxy.tolist(), strict=True):
                if number >= 0:
                    paths[number].append((i, round((x1 + x2) / 2), round((y1 + y2) / 2)))
    capture_of_clip = cv2.VideoCapture(str(studio.work / "clip.avi"))
    for _i in range(FRAMES):
        frame = np.asarray(capture_of_clip.read()[1], np.uint8)
    for number, path in paths.items():
        if path[-1][0] < FRAMES - 3 or len(path) < 6:
            continue
        colour = tuple(int(value) for value in np.random.default_rng(number).integers(0, 200, 3))
        x, y = path[-1][1:]
        line = np.array([point[1:] for point in path], np.int32)
        cv2.polylines(frame, [line], False, colour, 3, cv2.LINE_AA)
        cv2.circle(frame, (x, y), 6, colour, -1, cv2.LINE_AA)
        cv2.putText(frame, str(number), (x + 9, y - 9), cv2.FONT_HERSHEY_SIMPLEX, 0.8, colour, 2, cv2.LINE_AA)
    return frame


def crops(studio: Studio, _: Chromium) -> Image:
    """The first detections of six images, each cut out, in a square of its own."""
    side_px, columns, tiles = 120, 8, []
    with Detector(str(studio.export()), threads=1) as detector:
        for found in detector.stream([str(path) for path in studio.images[2:8]]):
            image = read(Path(str(found.path)))
            for x1, y1, x2, y2 in found.drawn().xyxy.round().astype(int).tolist()[:6]:
                cut = image[max(y1, 0) : y2, max(x1, 0) : x2]
                scale = (side_px - 8) / max(cut.shape[:2])
                cut = cv2.resize(cut, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA).astype(np.uint8)
                tile = np.full((side_px, side_px, 3), 255, np.uint8)
                top, left = (side_px - cut.shape[0]) // 2, (side_px - cut.shape[1]) // 2
                tile[top : top + cut.shape[0], left : left + cut.shape[1]] = cut
                tiles.append(tile)
    rows = [np.concatenate(tiles[i : i + columns], axis=1) for i in range(0, len(tiles) - columns + 1, columns)]
    return np.concatenate(rows[:4], axis=0)


def titled(image: Image, title: str) -> Image:
    head = np.full((34, image.shape[1], 3), 255, np.uint8)
    cv2.putText(head, title, (2, 23), cv2.FONT_HERSHEY_SIMPLEX, 0.52, (44, 32, 22), 1, cv2.LINE_AA)
    return np.concatenate([head, image], axis=0)


def words(studio: Studio, _: Chromium) -> Image:
    """Letterbox, points of two levels, and boxes of three IoUs with one object."""
    image = cv2.resize(read(studio.image), (320, 240), interpolation=cv2.INTER_AREA).astype(np.uint8)
    boxed = np.full((320, 320, 3), 114, np.uint8)
    boxed[40:280] = image
    dotted = boxed // 2 + 127
    for stride, colour, radius in ((32, BLUE, 2), (64, ORANGE, 5)):
        for y in range(stride // 2, 320, stride):
            for x in range(stride // 2, 320, stride):
                cv2.circle(dotted, (x, y), radius, colour, -1, cv2.LINE_AA)
    overlaps = np.full((320, 320, 3), 250, np.uint8)
    for row, (iou, name) in enumerate(((0.5, "IoU 0.5"), (0.75, "IoU 0.75"), (0.95, "IoU 0.95"))):
        width, height, left, top = 110, 80, 30, 16 + row * 102
        shift = round(width * (1 - iou) / (1 + iou))  # of two boxes of one size, side by side
        cv2.rectangle(overlaps, (left, top), (left + width, top + height), BLUE, 2, cv2.LINE_AA)
        cv2.rectangle(overlaps, (left + shift, top), (left + shift + width, top + height), ORANGE, 2, cv2.LINE_AA)
        cv2.putText(overlaps, name, (214, top + 46), cv2.FONT_HERSHEY_SIMPLEX, 0.55, (44, 32, 22), 1, cv2.LINE_AA)
    panels = [
        titled(boxed, "network input, letterboxed"),
        titled(dotted, "points: stride 32 (blue), 64 (orange)"),
        titled(overlaps, "ground truth (blue), detection (orange)"),
    ]
    return side_by_side(panels, gap_px=20)


def shares(studio: Studio, browser: Chromium) -> Image:
    """Which process computes which images of a batch of 16 with --devices 4 and --accumulate 2."""
    parts = []
    for process in range(4):
        cells = []
        for part in range(2):
            first = 4 * process + 2 * part
            cells.append(f'<div class="box"><b>part {part + 1}</b><code>images {first}, {first + 1}</code></div>')
        inside = "".join(cells)
        parts.append(
            f'<div class="box"><b>process {process}</b><div class="ends" style="margin-top:8px">{inside}</div></div>'
        )
    batch = '<div class="ends"><div class="box"><b>one batch</b><code>images 0 to 15</code></div></div>'
    step = '<div class="ends"><div class="box"><b>one step</b><code>mean gradient</code></div></div>'
    arrow = '<div class="arrow">&#10142;</div>'
    content = f'<div class="row">{batch}{arrow}{"".join(parts)}{arrow}{step}</div>'
    return capture_html(browser, content, studio.work, width_px=1200)


def notebook(studio: Studio, browser: Chromium) -> Image:
    """The cells of the notebook that export and detect, with the outputs that it holds."""
    cells = json.loads((ROOT / "docs/quickstart.ipynb").read_text(encoding="utf-8"))["cells"]
    shown = [cell for cell in cells if cell["cell_type"] == "code" and shows_something(cell)]
    content = "".join(
        f"<pre>{html.escape(''.join(cell['source']))}</pre>{''.join(map(as_html, cell['outputs']))}" for cell in shown
    )
    style = (
        "<style>table { border-collapse: collapse; margin: 6px 0 } td, th { padding: 2px 10px; text-align: left }"
        "p { margin: 8px 0 0 } pre { margin-top: 14px !important } img { margin-top: 8px; zoom: 1.6 }</style>"
    )
    return capture_html(browser, style + content, studio.work, width_px=900)


def shows_something(cell: dict[str, Any]) -> bool:
    return any(as_html(output) for output in cell["outputs"])


def as_html(output: dict[str, Any]) -> str:
    """A table or an image; nothing for other outputs."""
    data = output.get("data", {})
    if "text/html" in data:
        return "".join(data["text/html"])
    if "image/png" in data:
        return f'<img src="data:image/png;base64,{"".join(data["image/png"]).strip()}">'
    return ""


SCENES: dict[str, Callable[[Any, Any], Image]] = {
    "inspect-page": inspect_page,
    "video": video,
    "track": track,
    "crops": crops,
    "words": words,
    "shares": shares,
    "notebook": notebook,
}
