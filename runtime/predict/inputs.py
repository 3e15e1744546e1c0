"""The inputs of predict: which files, cameras and addresses there are, how long they are, and what is drawn where."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from aweigh.runtime.errors import BadInput
from aweigh.runtime.flow.sources import is_address, is_live, is_video, named_source, source_name
from aweigh.runtime.images.drawing import WRITABLE
from aweigh.runtime.images.listing import list_images
from aweigh.runtime.video.reading import FrameLimits, video_facts


def find_inputs(sources: Iterable[str | os.PathLike[str]]) -> list[Path | str | int]:
    """Files, addresses and numbers of cameras, each once. Raises BadInput where there is nothing to read."""
    inputs: list[Path | str | int] = []
    for source in sources:
        named = named_source(os.fspath(source))
        if isinstance(named, int) or is_address(named):
            inputs.append(named)
        else:
            inputs += list_images(named, videos=True)
    return list(dict.fromkeys(inputs))


def measure_inputs(inputs: Sequence[Path | str | int], limits: FrameLimits) -> tuple[dict[str, float], int | None]:
    """The frames per second of each video by its name, and the number of images and frames in all.

    The number is None where a source does not give it. A video that cannot be read is left out: the stream reports it.
    """
    fps: dict[str, float] = {}
    total: int | None = 0
    for source in inputs:
        count: int | None = None
        if is_video(source):
            name = source_name(source) or ""
            try:
                facts = video_facts(source, name)
            except BadInput:
                continue
            if facts.fps is not None:
                fps[name] = facts.fps
            if facts.frames is not None and limits.seconds is None:
                count = min(facts.frames, limits.frames or facts.frames)
        elif not is_live(source):
            count = 1
        total = None if total is None or count is None else total + count
    return fps, total


def output_paths(inputs: Sequence[Path | str | int], out: Path) -> dict[str, Path]:
    """The file in ``out`` for the image or video that is drawn of each source, by the source's name.

    A file keeps its place below the folder that all files have in common; a live source goes by its name. Formats that
    cannot be written become PNG and MP4, and no two sources share a file.

    Raises:
        BadInput: ``out`` is a file, or a source would be overwritten.
    """
    if out.exists() and not out.is_dir():
        raise BadInput(f"--out {out}: expected a folder, this is a file")
    paths = [source for source in inputs if isinstance(source, Path)]
    common = Path(os.path.commonpath([path.resolve().parent for path in paths])) if paths else Path()
    taken: set[Path] = set()
    targets = {}
    for source in inputs:
        name = source_name(source) or ""
        if isinstance(source, Path):
            target = out / source.resolve().relative_to(common)
        else:
            target = out / re.sub(r"[^\w.-]+", "-", name).strip("-.")
        suffixes, suffix = (WRITABLE, ".png")
        if not isinstance(source, Path) or is_video(source):
            suffixes, suffix = frozenset({".mp4"}), ".mp4"
        if target.suffix.lower() not in suffixes:
            target = target.with_name(target.name + suffix)
        number, first = 1, target
        while target in taken:
            number += 1
            target = first.with_stem(f"{first.stem}-{number}")
        taken.add(target)
        targets[name] = target
    overwritten = {p.resolve() for p in paths} & {t.resolve() for t in taken}
    if overwritten:
        raise BadInput(f"--out {out}: would overwrite the source {min(overwritten)}; choose another folder")
    return targets
