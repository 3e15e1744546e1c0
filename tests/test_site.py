"""The site: every page has a place, every image a licence and a page, every public name an entry in the reference."""

from __future__ import annotations

import importlib
import inspect
import re
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import yaml
from source_tree import ROOT, STAGES

DOCS = ROOT / "docs"
PICTURES = DOCS / "pictures"
_IMAGE = re.compile(r"!\[(?P<alt>[^\]]*)\]\((?P<path>[^)]+)\)")


class _Loader(yaml.SafeLoader):
    """Skips the tags of mkdocs.yml that name Python functions."""


_Loader.add_multi_constructor("tag:yaml.org,2002:python/", lambda *_: None)


def entries(nav: Any) -> list[str]:
    if isinstance(nav, str):
        return [nav]
    return [page for part in (nav.values() if isinstance(nav, dict) else nav) for page in entries(part)]


def images_of(document: Path) -> list[tuple[str, Path]]:
    text = document.read_text(encoding="utf-8")
    return [(found["alt"], (document.parent / found["path"]).resolve()) for found in _IMAGE.finditer(text)]


# Pages without an image -> why nothing is to be seen there.
NOTHING_TO_SEE = {
    "bad-input.md": "messages, which are text",
    "cookbook/index.md": "a list of pages, each of which has its own",
    "official-weights.md": "files that lie elsewhere, by address and digest",
    "peers.md": "where a table of README was read",
    "pictures/LICENSES.md": "licences",
    "reference/index.md": "a list of pages",
    **{f"reference/{stage}.md": "made from docstrings" for stage in STAGES},
    "status.md": "what has not been run",
}
DOCUMENTS = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]


def test_every_page_is_in_the_navigation_of_mkdocs_yml() -> None:
    listed = entries(yaml.load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"), _Loader)["nav"])
    assert sorted(listed) == sorted(str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md"))


def test_every_image_is_shown_and_small() -> None:
    shown = {path for document in DOCUMENTS for _, path in images_of(document)}
    files = {path.resolve() for path in PICTURES.iterdir() if path.suffix != ".md"}
    assert {path.name for path in files - shown} == set()
    sizes = {path.name: path.stat().st_size for path in files}
    assert {name: size for name, size in sizes.items() if size > 150_000} == {}
    assert sum(sizes.values()) <= 2_000_000


def test_make_pictures_makes_every_image(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(DOCS / "site"))
    made = set(importlib.import_module("album").PAGES)
    made |= set(importlib.import_module("scenes").SCENES) | set(importlib.import_module("plots").PLOTS)
    assert made == {path.stem for path in PICTURES.glob("*.webp")}


def test_pages_have_an_image_where_there_is_something_to_see() -> None:
    without = {str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md") if not images_of(page)}
    assert without == set(NOTHING_TO_SEE)


def test_every_image_has_words_for_those_who_do_not_see_it() -> None:
    silent = [f"{document.name}: {path.name}" for document in DOCUMENTS for alt, path in images_of(document) if not alt]
    assert silent == []


def test_every_photograph_has_a_licence() -> None:
    """What is no photograph is a plot, a drawing or a terminal: those are named here."""
    drawn = {"graph", "results", "confusion", "curves", "inspect", "val", "bench", "engine", "shares", "inspect-page"}
    drawn |= {"receipt", "receipt-failed"}
    named = re.findall(r"`([\w*-]+)`", (PICTURES / "LICENSES.md").read_text(encoding="utf-8"))
    without = {
        path.stem
        for path in PICTURES.glob("*.webp")
        if path.stem not in drawn and not path.stem.startswith("plot-")
        if not any(fnmatch(path.stem, pattern) for pattern in named)
    }
    assert without == set()


@pytest.mark.parametrize("stage", STAGES)
def test_the_reference_lists_every_public_name(stage: str) -> None:
    package = importlib.import_module(f"aweigh.{stage}")
    public = {
        name
        for name in package.__all__
        if inspect.isclass(getattr(package, name)) or inspect.isfunction(getattr(package, name))
    }
    listed = re.findall(rf"^::: aweigh\.{stage}\.(\w+)$", (DOCS / f"reference/{stage}.md").read_text("utf-8"), re.M)
    assert sorted(listed) == sorted(public)


def test_readme_is_a_page() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.split()) <= 1000
    assert text.index("make demo") < text.index("pip install")
