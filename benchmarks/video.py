"""A long video: frames in order, no memory that grows, and as fast as the same frames from files.

    python benchmarks/video.py --model FILE --source DIR --frames 2000 --limit-ratio 0.95 --out FILE.json

The video is generated: images of ``--source`` pan past, so that the objects are elsewhere in every frame. Stretches
of it and of the same frames as JPEG files take turns; the ratio is the video's throughput over that of the files.
Order: every ``--check-every``-th frame's detections are held against a single call on that frame, and against those of
the next frame, which must differ, otherwise the check could not fail.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import cv2
import numpy as np

from aweigh.runtime.agreement.match import ScoredBoxes, match_detections
from aweigh.runtime.detector import Detector
from aweigh.runtime.errors import BadInput, CannotRun, CheckFailed
from aweigh.runtime.images.listing import list_images
from aweigh.runtime.images.reading import ImageU8, read_image
from aweigh.runtime.machine.conditions import between, snapshot
from aweigh.runtime.machine.facts import memory_mb
from aweigh.runtime.results.detections import Detections
from support.artifact import Artifact, add_settings, detect_video, frames, parse_artifact
from support.paired import paired_ratio
from support.reports.grid import Column, interval
from support.reports.growth import growth_mib
from support.reports.layout import QUIET, Layout, tables
from support.reports.plots import Bars
from support.reports.report import Report, Row
from support.reports.script import make_parser, public_command, publish, run

_STEP_PX = 8  # how far the picture pans from frame to frame
_MOVED_PX, _SHARE = 0.5, 0.02  # beyond these, single and batched detection found different things


LAYOUT = Layout(
    tables(
        {
            "video against its frames as files": (
                Column("model", "model"),
                Column("frames", "frames"),
                Column("frames/s", "frames_per_s", ".1f"),
                Column("files/s", "files_per_s", ".1f"),
                Column("throughput over files'", interval("ratio")),
                Column("growth MiB", "growth_mib", ".1f"),
                Column("checked", "checked"),
                Column("out of order", "out_of_order"),
                Column("like the next", "like_the_next"),
                QUIET,
            )
        }
    ),
    plots=(Bars("throughput over that of files", ("model",), "ratio", "ratio", 1.0),),
)


def generate(
    folder: Path, pictures: Sequence[ImageU8], count: int, size_hw: tuple[int, int]
) -> tuple[Path, list[Path]]:
    """A video and the frames it gives back, as JPEG files. Raises CannotRun where no codec is at hand."""
    height, width = size_hw
    video = folder / "video.avi"
    writer = cv2.VideoWriter(str(video), cv2.VideoWriter.fourcc(*"MJPG"), 25.0, (width, height))
    if not writer.isOpened():
        raise CannotRun("OpenCV cannot write MJPG videos here")
    scenes = [cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA) for picture in pictures]
    for number in range(count):
        scene = scenes[number * len(scenes) // count]
        writer.write(cv2.cvtColor(np.roll(scene, number * _STEP_PX % width, axis=1), cv2.COLOR_RGB2BGR))
    writer.release()
    files = []
    for number, frame in enumerate(frames(video)):
        files.append(folder / f"{number:06}.jpg")
        cv2.imwrite(str(files[-1]), cv2.cvtColor(frame, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 90])
    if len(files) != count:
        raise CheckFailed(f"the video holds {len(files)} frames, {count} were written")
    return video, files


def race(detector: Detector, video: Path, files: Sequence[Path], stretch: int) -> tuple[Row, list[Detections]]:
    """Stretches of the video and of the files in turns; the figures, and the video's detections."""
    stream: Iterator[Detections] = detect_video(detector, video)
    found: list[Detections] = []
    taken_s: dict[str, list[float]] = {"video": [], "files": []}
    memory: list[float] = []

    def from_video(start: int) -> None:
        # Without the pictures, which a result of a frame in memory holds.
        found.extend(d.from_source(None, None, {}) for d in islice(stream, stretch))

    def from_files(start: int) -> None:
        detector(list(files[start : start + stretch]))

    for turn, start in enumerate(range(0, len(files), stretch)):
        ways = [("video", from_video), ("files", from_files)]
        for name, way in ways if turn % 2 == 0 else ways[::-1]:
            begin = time.perf_counter()
            way(start)
            taken_s[name].append(time.perf_counter() - begin)
        if (now := memory_mb("VmRSS")) is not None:
            memory.append(now)
    if next(stream, None) is not None or len(found) != len(files):
        raise CheckFailed(f"{len(files)} frames went in, at least {len(found)} results came out")
    total = {name: sum(values) for name, values in taken_s.items()}
    return {
        "frames": len(files),
        "frames_per_s": len(files) / total["video"],
        "files_per_s": len(files) / total["files"],
        # Throughput over throughput: the files' time over the video's.
        "ratio": paired_ratio(taken_s["files"], taken_s["video"]).to_dict(),
        "growth_mib": growth_mib(memory),
        "memory_mb": memory,
    }, found


def check_order(detector: Detector, video: Path, found: Sequence[Detections], every: int) -> Row:
    """Frames whose result is not the frame's own, and those that could be taken for the next one's."""
    checked = wrong = alike = 0
    for number, frame in enumerate(frames(video)):
        if number % every == 0 and number + 1 < len(found):
            alone = detector(frame)
            checked += 1
            wrong += not _same(alone, found[number])
            alike += _same(alone, found[number + 1])
    return {"checked": checked, "out_of_order": wrong, "like_the_next": alike}


def _same(a: Detections, b: Detections) -> bool:
    first, second = (ScoredBoxes(detections.xyxy, detections.conf, detections.cls) for detections in (a, b))
    match = match_detections(first, second, _MOVED_PX)
    return match.differing <= match.allowed(_SHARE)


def measure(artifact: Artifact, video: Path, files: Sequence[Path], stretch: int, every: int) -> Row:
    with artifact.open() as detector:
        detector(list(files[: detector.batch_size]))  # warm-up
        before = snapshot()
        figures, found = race(detector, video, files, stretch)
        conditions = between(before, snapshot())
        order = check_order(detector, video, found, every)
        about = {"conditions": conditions.to_dict(), "noise": conditions.noise}
        return {**artifact.about(detector), **figures, **order, **about}


def main(arguments: Sequence[str]) -> int:
    parser = make_parser(__doc__)
    parser.add_argument("--model", required=True, action="append", metavar="FILE[@NAME=VALUE,...]", help="repeatable")
    parser.add_argument("--source", required=True, help="pictures with objects that the model finds")
    parser.add_argument("--pictures", type=int, default=20, help="at most so many of them (default %(default)s)")
    parser.add_argument("--frames", type=int, default=2000, help="default %(default)s")
    parser.add_argument("--stretch", type=int, default=96, help="frames per turn (default %(default)s)")
    parser.add_argument("--check-every", type=int, default=10, help="default %(default)s")
    parser.add_argument("--size", type=int, nargs=2, default=(480, 640), metavar=("H", "W"), help="of the video")
    parser.add_argument("--limit-ratio", type=float, default=0.95, help="default %(default)s")
    parser.add_argument("--limit-growth-mib", type=float, default=16.0, help="default %(default)s")
    add_settings(parser)
    options = parser.parse_args(arguments)
    if min(options.frames, options.stretch, options.check_every, options.pictures, *options.size) < 1:
        raise BadInput("--frames, --stretch, --check-every, --pictures, --size: expected at least 1")
    pictures = [read_image(path) for path in list_images(options.source)[: options.pictures]]
    artifacts = [parse_artifact(text, options) for text in options.model]
    with tempfile.TemporaryDirectory() as folder:
        video, files = generate(Path(folder), pictures, options.frames, tuple(options.size))
        rows = [measure(a, video, files, options.stretch, options.check_every) for a in artifacts]
    limits = {"limit_ratio": options.limit_ratio, "limit_growth_mib": options.limit_growth_mib}
    what = "a generated video against the same frames as files; order of the frames, growth of resident memory"
    publish(Report.here("video", what, rows, public_command("video.py", arguments), limits), LAYOUT, options)
    return int(any(failures(row, options.limit_ratio, options.limit_growth_mib) for row in rows))


def failures(row: Row, limit_ratio: float, limit_growth_mib: float) -> list[str]:
    """What of a row misses its limit."""
    found = []
    if row["ratio"]["median"] < limit_ratio:
        found.append("ratio")
    if (row["growth_mib"] or 0) > limit_growth_mib:
        found.append("memory")
    if row["out_of_order"] or row["like_the_next"] * 2 > row["checked"]:
        found.append("order")
    return found


if __name__ == "__main__":
    sys.exit(run("video.py", main))
