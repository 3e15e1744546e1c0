"""Hook of mkdocs: what the pages need that does not lie in docs/.

Links to other files of the repository (``../benchmarks/README.md``) lead to them on GitHub. For the site the files go
along, below ``repository/``, and links between them and the pages are rewritten. The reference reads docstrings from a
tree in which ``aweigh/runtime`` is the folder ``runtime``.
"""

from __future__ import annotations

import os
import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.plugins import event_priority
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
COPIES = "repository"
STAGES = ("runtime", "train", "export", "serve")

_LINK = re.compile(r"(?<=\]\()(?!https?:|mailto:|#)([^)#\s]+)(?=[)#])")
_CODE = re.compile(r"(```.*?```|`[^`\n]+`)", re.DOTALL)


@event_priority(100)  # before mkdocstrings, which leaves out folders that are not there
def on_config(config: MkDocsConfig) -> MkDocsConfig:
    tree = ROOT / "build/reference/aweigh"
    tree.mkdir(parents=True, exist_ok=True)
    for stage in STAGES:
        link = tree / stage
        if not link.is_symlink():
            link.symlink_to(os.path.relpath(ROOT / stage, tree), target_is_directory=True)
    return config


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Adds what pages link to outside docs/, and what that links to in turn."""
    waiting = [f"docs/{file.src_uri}" for file in files.documentation_pages()]
    seen: set[str] = set(waiting)
    while waiting:
        place = waiting.pop()
        text = content_of(place)
        for link in links_of(text):
            target = target_of(place, link)
            if target in seen or target.startswith("docs/") or not (ROOT / target).exists():
                continue
            seen.add(target)
            name = site_path(target)
            if name.endswith(".md"):
                waiting.append(target)
                page = File.generated(config, name, content=content_of(target), inclusion=InclusionLevel.NOT_IN_NAV)
                files.append(page)
            else:
                files.append(File.generated(config, name, abs_src_path=str(ROOT / target)))
    return files


def on_page_markdown(markdown: str, *, page: Page, **_: Any) -> str:
    place = repository_path(page.file.src_uri)

    def rewritten(match: re.Match[str]) -> str:
        target = target_of(place, match[1])
        if not (ROOT / target).exists():
            return match[0]  # mkdocs reports it
        return posixpath.relpath(site_path(target), posixpath.dirname(page.file.src_uri) or ".")

    parts = _CODE.split(markdown)
    return "".join(part if _CODE.fullmatch(part) else _LINK.sub(rewritten, part) for part in parts)


def content_of(place: str) -> str:
    """The Markdown of a file of the repository; of a folder, a list of its files."""
    path = ROOT / place
    if not path.is_dir():
        return path.read_text(encoding="utf-8")
    names = sorted(file.name for file in path.iterdir() if file.is_file() and file.suffix in {".json", ".yaml", ".md"})
    return "\n".join([f"# {place}", "", *(f"* [{name}]({place.rsplit('/', 1)[-1]}/{name})" for name in names)])


def target_of(place: str, link: str) -> str:
    """The file or folder of the repository that a link of the file ``place`` names; of a folder its README."""
    target = posixpath.normpath(posixpath.join(posixpath.dirname(place), link))
    return f"{target}/README.md" if (ROOT / target / "README.md").exists() else target


def links_of(text: str) -> list[str]:
    return _LINK.findall(_CODE.sub("", text))


def site_path(place: str) -> str:
    """Where a file of the repository lies in the site; a folder is a page."""
    if place.startswith("docs/"):
        return place.removeprefix("docs/")
    return f"{COPIES}/{place}.md" if (ROOT / place).is_dir() else f"{COPIES}/{place}"


def repository_path(uri: str) -> str:
    """The file of the repository that a page of the site is."""
    if not uri.startswith(f"{COPIES}/"):
        return f"docs/{uri}"
    place = uri.removeprefix(f"{COPIES}/")
    return place if (ROOT / place).exists() else place.removesuffix(".md")
