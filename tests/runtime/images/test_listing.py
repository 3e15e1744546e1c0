"""Links in a folder of images: no folder is listed twice, and every listing ends."""

from __future__ import annotations

from pathlib import Path

import pytest

from aweigh.runtime.images.listing import list_images, walk_folders
from aweigh.train.data.open import load_split
from tests.support.cases import case


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "images"
    (root / "day1").mkdir(parents=True)
    for name in ("a.jpg", "day1/b.jpg"):
        (root / name).touch()
    return root


def test_the_sample_s_link_to_its_own_folder(tmp_path: Path) -> None:
    root = case("symlink-loop", tmp_path)
    for name in ("latest", "older"):
        (root / "images/train" / name).symlink_to(".")
    split = load_split(root, "train")
    assert [len(record.labels) for record in split.records] == [1, 1, 1]
    assert not split.faults
    assert not split.notes


@pytest.mark.parametrize(
    ("link", "target"),
    [("here", "."), ("up", ".."), ("day1/up", ".."), ("all", "../.."), ("latest", "day1"), ("day1/self", "self")],
)
@pytest.mark.parametrize("pattern", ["", "/**/*.jpg", "/**"])
def test_a_link_adds_nothing(folder: Path, link: str, target: str, pattern: str) -> None:
    (folder.parent / "other").mkdir()
    (folder.parent / "other" / "c.jpg").touch()
    (folder / link).symlink_to(target)
    assert list_images(f"{folder}{pattern}") == [folder / "a.jpg", folder / "day1" / "b.jpg"]


def test_a_link_to_another_folder_is_followed_once(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "c.jpg").touch()
    (tmp_path / "store" / "back").symlink_to(folder)
    for name in ("more", "again"):
        (folder / name).symlink_to(tmp_path / "store")
    assert list_images(folder) == [folder / "a.jpg", folder / "again" / "c.jpg", folder / "day1" / "b.jpg"]
    assert [path.name for path, _ in walk_folders(folder)] == ["images", "day1", "again"]


def test_patterns_over_folders(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / ".hidden").mkdir()
    (folder / ".hidden" / "d.jpg").touch()
    monkeypatch.chdir(folder)
    assert list_images("**/*.jpg") == [Path("a.jpg"), Path("day1/b.jpg")]
    assert list_images("**/day1/*") == [Path("day1/b.jpg")]
    assert list_images(f"{folder.parent}/*/**/b.*") == [folder / "day1" / "b.jpg"]
