from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np
import pytest

from aweigh.runtime.errors import BadInput, CannotRun
from aweigh.runtime.images.reading import read_image
from aweigh.runtime.machine.facts import free_memory_bytes
from aweigh.runtime.spec import InputSpec
from aweigh.train.data.loading import cache as cache_module
from aweigh.train.data.loading.augment import Augment
from aweigh.train.data.loading.cache import ImageCache
from aweigh.train.data.loading.dataset import DetectionDataset
from aweigh.train.data.open import load_split
from aweigh.train.data.records import Split

Kind = Literal["ram", "disk"]
KINDS: tuple[Kind, ...] = ("ram", "disk")


@pytest.mark.parametrize("kind", KINDS)
def test_cached_pictures_are_the_decoded_ones(shapes_train: Split, tmp_path: Path, kind: Kind) -> None:
    pictures = ImageCache(shapes_train.records, kind, tmp_path)
    assert pictures.total_bytes == 24 * 96 * 96 * 3
    for i, record in enumerate(shapes_train.records):
        np.testing.assert_array_equal(pictures[i], read_image(record.path))


@pytest.mark.parametrize("kind", KINDS)
def test_items_are_the_same_with_and_without(shapes_train: Split, tmp_path: Path, kind: Kind) -> None:
    spec = InputSpec((64, 96))
    plain = DetectionDataset(shapes_train, spec, Augment(), seed=1)
    cached = DetectionDataset(shapes_train, spec, Augment(), seed=1, cache=kind, cache_dir=tmp_path)
    for key in ((0, 0), (3, 11), (9, 23)):
        assert np.array_equal(plain[key].image_u8, cached[key].image_u8)
        assert np.array_equal(plain[key].boxes_xyxy, cached[key].boxes_xyxy)


def test_the_file_is_found_again_and_follows_the_pictures(coco_tree: Callable[..., Any], tmp_path: Path) -> None:
    split, folder = coco_tree().load(), tmp_path / "cache"
    ImageCache(split.records, "disk", folder)
    (file,) = folder.glob("*.u8")
    written_ns = file.stat().st_mtime_ns
    ImageCache(split.records, "disk", folder)
    assert file.stat().st_mtime_ns == written_ns
    os.utime(split.records[0].path, ns=(1, 1))
    ImageCache(split.records, "disk", folder)
    assert len(list(folder.glob("*.u8"))) == 2


@pytest.mark.parametrize("kind", KINDS)
def test_a_broken_picture_stops_it_and_leaves_nothing(
    coco_tree: Callable[..., Any], tmp_path: Path, kind: Kind
) -> None:
    split, folder = coco_tree().load(), tmp_path / "cache"
    split.records[2].path.write_bytes(b"")
    with pytest.raises(BadInput, match=r"2\.jpg"):
        ImageCache(split.records, kind, folder)
    assert list(folder.glob("*.u8")) == []


def test_killed_while_writing_it_leaves_no_file_by_its_name(shapes_dir: Path, tmp_path: Path) -> None:
    code = f"""
import os
from pathlib import Path
from types import SimpleNamespace
from aweigh.train.data.loading import cache
from aweigh.train.data.open import load_split
records = load_split({str(shapes_dir)!r}, "train").records
read = cache.read_record
cache.read_record = lambda record: os.kill(os.getpid(), 9) if record is records[20] else read(record)
cache.ImageCache(records, "disk", Path({str(tmp_path)!r}))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == -9, done.stderr
    assert list(tmp_path.glob("pictures-*")) == []
    assert len(list(tmp_path.glob(".pictures-*.u8"))) == 1
    ImageCache(load_split(shapes_dir, "train").records, "disk", tmp_path)
    assert [path.suffix for path in tmp_path.iterdir() if path.suffix != ".lock"] == [".u8"]


def test_what_does_not_fit_is_refused(shapes_train: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_module, "free_memory_bytes", lambda: 100_000)
    with pytest.raises(CannotRun, match=r"needs .* GB, memory has .* --cache disk"):
        ImageCache(shapes_train.records, "ram")
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=100_000))
    with pytest.raises(CannotRun, match=r"needs .* GB, disk .* --cache none"):
        ImageCache(shapes_train.records, "disk", tmp_path)
    assert list(tmp_path.glob("pictures-*")) == []


def test_memory_of_this_machine_can_be_told() -> None:
    assert free_memory_bytes() > 0


def test_the_lock_follows_no_link(shapes_train: Split, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("stays")
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / ".pictures.lock").symlink_to(victim)
    with pytest.raises(OSError, match=r"pictures\.lock"):
        ImageCache(shapes_train.records, "disk", tmp_path / "cache")
    assert victim.read_text() == "stays"


def test_a_disk_cache_needs_a_folder(shapes_train: Split) -> None:
    with pytest.raises(BadInput, match="needs a folder"):
        ImageCache(shapes_train.records, "disk")


def test_a_file_cut_or_overwritten_under_a_training_does_no_harm(shapes_dir: Path, tmp_path: Path) -> None:
    """In a process of its own, which a mapped file would have ended with SIGBUS."""
    code = f"""
import os
from contextlib import closing
from pathlib import Path
import numpy as np
from aweigh.runtime.spec import InputSpec
from aweigh.train.data.loading.augment import Augment
from aweigh.train.data.loading.dataset import DetectionDataset
from aweigh.train.data.loading.loader import training_loader
from aweigh.train.data.open import load_split
split = load_split({str(shapes_dir)!r}, "train")
plain = DetectionDataset(split, InputSpec((64, 96)), Augment(), seed=1)
harms = (
    lambda file: os.truncate(file, 0),
    lambda file: os.truncate(file, 70_000),
    lambda file: file.write_bytes(bytes(file.stat().st_size)),
)
for number, harm in enumerate(harms):
    for workers in (0, 1):
        folder = Path({str(tmp_path)!r}, str(number), str(workers))
        cached = DetectionDataset(split, InputSpec((64, 96)), Augment(), 1, "disk", folder)
        (file,) = folder.glob("*.u8")
        with closing(iter(training_loader(plain, 8))) as expected:
            with closing(iter(training_loader(cached, 8, workers=workers))) as batches:
                for position in range(8):
                    assert np.array_equal(next(expected).images_u8, next(batches).images_u8), (number, position)
                    if position == 1:
                        harm(file)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr


def test_a_file_of_other_content_is_written_again(shapes_train: Split, tmp_path: Path) -> None:
    ImageCache(shapes_train.records, "disk", tmp_path)
    (file,) = tmp_path.glob("*.u8")
    file.write_bytes(bytes(file.stat().st_size))
    pictures = ImageCache(shapes_train.records, "disk", tmp_path)
    np.testing.assert_array_equal(pictures[5], read_image(shapes_train.records[5].path))
