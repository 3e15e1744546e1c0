"""What all HTML pages share: one way to fill a template, one style, and images inside the file."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from importlib.resources import files
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

_LEGIBLE_PX = 512
_JPEG_QUALITY = 88


def render(package: str, template: str, filters: Mapping[str, Callable[..., Any]] | None = None, **values: Any) -> str:
    """A page from a jinja2 template.

    Values are escaped for HTML, and a name that the template uses without having it is an error. A template may extend
    another one, by the name PACKAGE/FILE.

    Args:
        package: the package whose folder holds the template, such as ``aweigh.export.proof``.
        template: its file name.
        filters: functions that the template may apply with ``|``, by name.
        values: what the template fills in.

    Raises:
        jinja2.UndefinedError: the template uses a name that is not in ``values``.
    """
    import jinja2

    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        loader=jinja2.FunctionLoader(_template),
    )
    environment.filters |= filters or {}
    return environment.get_template(f"{package}/{template}").render(values)


def _template(name: str) -> str:
    package, _, file = name.rpartition("/")
    return files(package).joinpath(file).read_text(encoding="utf-8")


def static_files(package: str) -> dict[str, bytes]:
    """The files of a folder that holds no code, such as ``aweigh.runtime.browser``, by name."""
    return {entry.name: entry.read_bytes() for entry in files(package).iterdir() if entry.is_file()}


def stylesheet() -> str:
    """The style of all pages, for ``<style>``."""
    return files("aweigh.runtime").joinpath("page.css").read_text(encoding="utf-8")


def html_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A plain table, as a notebook shows it; everything is escaped.

    Example:
        >>> html_table(["class", "AP"], [["a<b", "0.5"]])
        '<table><tr><th>class</th><th>AP</th></tr><tr><td>a&lt;b</td><td>0.5</td></tr></table>'
    """
    lines = [("th", header), *(("td", row) for row in rows)]
    body = "".join(f"<tr>{''.join(f'<{tag}>{escape(cell)}</{tag}>' for cell in cells)}</tr>" for tag, cells in lines)
    return f"<table>{body}</table>"


def data_uri(image_rgb_u8: npt.NDArray[np.uint8]) -> str:
    """An image [H, W, 3] as the address of an ``<img>``: a JPEG of quality 88 inside the page."""
    bgr = cv2.cvtColor(image_rgb_u8, cv2.COLOR_RGB2BGR)
    done, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    assert done
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode()


def legible(image_rgb_u8: npt.NDArray[np.uint8], largest_px: int | None = None) -> tuple[npt.NDArray[np.uint8], float]:
    """An image at a size at which names drawn in it can be read, and the factor by which its boxes grow.

    Small images are enlarged by a whole number; those with a side above ``largest_px`` are reduced to it.
    """
    side_px = max(image_rgb_u8.shape[:2])
    if largest_px is not None and side_px > largest_px:
        scale = largest_px / side_px
        height, width = (max(1, round(side * scale)) for side in image_rgb_u8.shape[:2])
        return np.asarray(cv2.resize(image_rgb_u8, (width, height), interpolation=cv2.INTER_AREA), np.uint8), scale
    enlarged = -(-_LEGIBLE_PX // side_px)
    return image_rgb_u8.repeat(enlarged, axis=0).repeat(enlarged, axis=1), float(enlarged)
