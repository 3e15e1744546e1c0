"""Released detectors whose digest is known: mmdet's, whose file names end in eight digits of their SHA-256.

The figures are those of their publishers (mmdet's metafiles); none was evaluated here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from aweigh.runtime.errors import BadInput
from aweigh.train.weights.own_place import in_own_place

_PLACE = "https://download.openmmlab.com/mmdetection/v2.0"
_DIGITS_OF_NAME = re.compile(r"-([0-9a-f]{8})\.pth$")
_FCOS = "fcos_center-normbbox-centeronreg-giou_r50_caffe_fpn_gn-head"


@dataclass(frozen=True)
class ReleasedModel:
    """A released detector.

    Attributes:
        name: of ``aweigh import --name``.
        ap: on COCO val2017 as published, in percent.
        path: below mmdet's place.
    """

    name: str
    ap: float
    path: str

    @property
    def url(self) -> str:
        return f"{_PLACE}/{self.path}"

    @property
    def file(self) -> str:
        """The file's name."""
        return self.path.rpartition("/")[2]

    @property
    def digits(self) -> str:
        """The first eight digits of its SHA-256."""
        return digits_in_name(self.file)

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {"name": self.name, "published_ap": self.ap, "url": self.url, "sha256_begins": self.digits}


def _mmdet(name: str, ap: float, folder: str, date: str, digits: str, family: str | None = None) -> ReleasedModel:
    """``folder`` is that of the configuration, whose name begins the file's."""
    family = family or folder.partition("_")[0]
    stem = f"{folder}_{date}-{digits}" if date else f"{folder}-{digits}"
    return ReleasedModel(name, ap, f"{family}/{folder}/{stem}.pth")


ZOO = {
    model.name: model
    for model in (
        _mmdet("autoassign-r50", 40.4, "auto_assign_r50_fpn_1x_coco", "20210413_115540", "5e17991f", "autoassign"),
        _mmdet("fcos-r50", 36.6, "fcos_r50_caffe_fpn_gn-head_1x_coco", "", "821213aa"),
        _mmdet("fcos-r50-giou", 38.7, f"{_FCOS}_1x_coco", "", "0a0d75a8"),
        _mmdet("fcos-r50-giou-dcn", 42.3, f"{_FCOS}_dcn_1x_coco", "", "ae4d8b3d"),
        _mmdet("fcos-x101-2x", 42.6, "fcos_x101_64x4d_fpn_gn-head_mstrain_640-800_2x_coco", "", "ede514a8"),
        _mmdet("paa-r50", 40.4, "paa_r50_fpn_1x_coco", "20200821", "936edec3"),
        _mmdet("paa-r50-1.5x", 41.4, "paa_r50_fpn_1.5x_coco", "20200823", "805d6078"),
        _mmdet("paa-r50-2x", 41.6, "paa_r50_fpn_2x_coco", "20200821", "c98bfc4e"),
        _mmdet("paa-r50-3x", 43.3, "paa_r50_fpn_mstrain_3x_coco", "20210121_145722", "06a6880b"),
        _mmdet("paa-r101", 42.6, "paa_r101_fpn_1x_coco", "20200821", "0a1825a4"),
        _mmdet("paa-r101-2x", 43.5, "paa_r101_fpn_2x_coco", "20200821", "6829f96b"),
        _mmdet("paa-r101-3x", 45.1, "paa_r101_fpn_mstrain_3x_coco", "20210122_084202", "83250d22"),
    )
}


def digits_in_name(name: str) -> str:
    """The digits of the SHA-256 that a published file's name ends in, or an empty text.

    Example:
        >>> digits_in_name("fcos_r50_caffe_fpn_gn-head_1x_coco-821213aa.pth")
        '821213aa'
    """
    found = _DIGITS_OF_NAME.search(name)
    return found[1] if found else ""


def zoo_source(name: str) -> str:
    """The source of a released detector, as :func:`~aweigh.train.weights.source.fetch_weights` takes it.

    A folder or an https address in ``AWEIGH_WEIGHTS`` stands for mmdet's place; it holds files of the published names.

    Raises:
        BadInput: no such name, or the folder lacks the file.

    Example:
        >>> zoo_source("fcos-r50").rpartition("/")[2]
        'fcos_r50_caffe_fpn_gn-head_1x_coco-821213aa.pth#sha256=821213aa'
    """
    if name not in ZOO:
        raise BadInput(f"--name {name}: expected one of {', '.join(ZOO)}; aweigh import --list shows them")
    model = ZOO[name]
    return in_own_place(model.file, model.digits, f"--name {name}") or f"{model.url}#sha256={model.digits}"


def released_source(checkpoint: str, sha256: str | None) -> str:
    """The source of ``--checkpoint``, with the digest of ``--sha256``, or else the one that its address carries.

    Raises:
        BadInput: an address without TLS, or two digests.
    """
    if checkpoint.startswith("http://"):
        raise BadInput(f"--checkpoint {checkpoint}: expected an https URL")
    place, given, digits = checkpoint.partition("#sha256=")
    if sha256 is not None and given and digits.lower() != sha256.lower():
        raise BadInput(f"--sha256 {sha256}: the address says {digits}; give one of the two")
    if "://" in place:
        digits = sha256 or digits or digits_in_name(place)
    else:
        digits = sha256 or digits
    return f"{place}#sha256={digits}" if digits else place
