"""Which images a receipt's page shows: those that decide come first."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from aweigh.export.proof.metrics.ap import ApComparison
from aweigh.export.proof.receipt import Drawn
from aweigh.export.proof.sides import Side
from aweigh.export.proof.stages import Severity, StageErrors, pairing_of, rows
from aweigh.runtime.agreement.tolerances import Tolerances
from aweigh.runtime.files.golden import Golden
from aweigh.runtime.images.preprocess import prepare
from aweigh.runtime.spec import InputSpec
from aweigh.train.data.records import Split, read_record

_MOST = 4
_MOST_OF_AP = 2


def worst_first(sets: Iterable[tuple[Sequence[Golden], Sequence[StageErrors]]]) -> list[Golden]:
    """The images compared, at most four: those that differ most first, else in their order.

    Args:
        sets: images, and the runs that they were compared in.
    """
    judged: list[tuple[Severity, Golden]] = []
    for images, runs in sets:
        for image, severities in zip(images, zip(*(run.severity for run in runs), strict=True), strict=True):
            worst = severities[0]
            for other in severities[1:]:
                worst = worst.joined(other)
            judged.append((worst, image))
    return [image for _, image in sorted(judged, key=lambda one: one[0], reverse=True)[:_MOST]]


def images_of_ap(ap: ApComparison, split: Split, spec: InputSpec) -> list[Golden]:
    """The images of the split in which most objects were lost, at most two."""
    records = {record.path.name: record for record in split.records}
    return [Golden(name, prepare(read_record(records[name]), spec)[0]) for name in ap.worst[:_MOST_OF_AP]]


def joined(compared: Sequence[Drawn], of_ap: Sequence[Drawn], ap_alone: bool) -> tuple[Drawn, ...]:
    """The images compared and those of AP, which come first where nothing else fails on images; at most four."""
    if ap_alone:
        names = {drawn.image.name for drawn in of_ap}
        return (*of_ap, *(drawn for drawn in compared if drawn.image.name not in names))[:_MOST]
    first = compared[: _MOST - len(of_ap)]
    names = {drawn.image.name for drawn in first}
    return (*first, *(drawn for drawn in of_ap if drawn.image.name not in names))


def drawn_of(reference: Side, subject: Side, images: Sequence[Golden], tolerances: Tolerances) -> tuple[Drawn, ...]:
    """The images with the detections of both; nothing for a raw file, which has none."""
    post = subject.spec.post
    if post.kind == "raw":
        return ()
    low = max(subject.spec.batch[0], reference.spec.batch[0])
    found = []
    for image in images:
        images_u8 = image.image_u8[None].repeat(low, axis=0)
        trained, exported = (rows(side.network.infer(images_u8), 0) for side in (reference, subject))
        found.append(Drawn(image, trained, exported, pairing_of(trained, exported, post, tolerances)))
    return tuple(found)
