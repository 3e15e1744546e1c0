"""The kinds of findings: grade, meaning and advice."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from aweigh.train.data.records import FAULT_KINDS, NOTE_KINDS, Fault

Grade = Literal["error", "warning", "note"]
GRADES: tuple[Grade, ...] = ("error", "warning", "note")


@dataclass(frozen=True)
class Kind:
    """One kind of finding.

    Attributes:
        grade: ``error``: labels or images are lost, or figures will be wrong; ``warning``: look at it; ``note``.
        meaning: what was found, in words.
        advice: what to do about it.
    """

    grade: Grade
    meaning: str
    advice: str


_REPAIR = "correct or remove the annotation; training drops it"
_ADVICE = {
    "clipped": "none, if a pixel or two; else the boxes may belong to another image",
    "unknown-category": "declare the category, or correct its name or id",
    "missing-picture": "restore the file, or take the image off the list; training goes on without it",
    "broken-picture": "restore the file, or take the image off the list; training goes on without it",
    "size-mismatch": "annotate the image as it is; training leaves it out, for its boxes may be anywhere",
    "exif-orientation": "strip the EXIF data or annotate the image as viewers show it; training leaves it out",
    "missing-annotation": "write the file (without objects, if there are none), or take the image off the list",
    "duplicate-picture": "give each image an id of its own; training takes the first",
    "duplicate-file": "list each file once; training takes the first",
    "ambiguous-image": "name the file in the annotation, or remove the others; training leaves it out",
    "not-annotated": "annotate it; where there is nothing to detect, save an annotation without objects",
    "no-class-names": "add classes.txt with a name on each line, in the order of the numbers",
    "outside-folder": "see that they are meant; the pages of doctor and export show images of the data set",
    "root-category": "none; correct the category's supercategory if it is a class of its own",
    "no-label-file": "write an empty one where there is nothing to detect, so that a lost one shows",
}

# The readers' and checkers' own kinds, which cost a box or an image each, and those that only the doctor looks for.
KINDS: dict[str, Kind] = {
    **{
        kind: Kind("warning" if kind == "clipped" else "error", meaning, _ADVICE.get(kind, _REPAIR))
        for kind, meaning in FAULT_KINDS.items()
    },
    **{kind: Kind("warning", meaning, _ADVICE[kind]) for kind, meaning in NOTE_KINDS.items()},
    "duplicate-box": Kind(
        "error",
        "box annotated more than once, with the same class",
        "keep one of them: the second one counts as missed however good the detector",
    ),
    "labelled-twice": Kind(
        "warning",
        "two boxes of one class that nearly coincide (IoU 0.9 or more)",
        "keep one of them, unless there are two objects",
    ),
    "two-classes": Kind(
        "warning",
        "two classes on what seems to be one object (IoU 0.9 or more)",
        "decide for one of them, unless objects have several classes here",
    ),
    "giant-box": Kind(
        "warning",
        "box over nearly the whole image (95 % of its area or more)",
        "look at it: an image's label is no box",
    ),
    "crowded": Kind(
        "note", "more objects in an image than a model reports by default (100)", "export with a larger --max-det"
    ),
    "no-objects": Kind(
        "note", "image without an object, trained on as a negative", "none, if there is nothing in it to find"
    ),
    "too-small": Kind(
        "warning",
        "object whose shorter side is less than the finest stride at the size of the network input",
        "take a larger --imgsz, or cut the images into tiles",
    ),
    "no-level": Kind(
        "warning",
        "object that holds no point of a level that fits it, at the size of the network input: hardly to be learnt",
        "take a larger --imgsz, or cut the images into tiles",
    ),
    "unsuited": Kind(
        "warning",
        "object of a size that the method hardly learns, at the size of the network input: no anchor of PAA covers it "
        "with an IoU of a quarter",
        "take another --method, a larger --imgsz for small ones, or an anchor_scale of your own in a recipe's options",
    ),
    "missing-split": Kind(
        "error",
        "training needs a split that is not there",
        "hold images out with --val-share 0.2, in training too, or give the data set this split",
    ),
    "nothing-to-learn": Kind(
        "error", "no object is annotated in the training split", "annotate some, or give another split"
    ),
    "different-categories": Kind(
        "error", "splits that declare different categories", "give all splits the same list; training refuses them"
    ),
    "untrained-class": Kind(
        "error", "class with objects in another split and none in training", "label some, move images, or drop it"
    ),
    "unmeasured-class": Kind(
        "warning", "class with objects in training and none in validation", "move images: its AP is unknown"
    ),
    "empty-class": Kind(
        "warning", "class without any object", "remove it, or label some: it costs outputs and is never found"
    ),
    "rare-class": Kind(
        "warning",
        "class with fewer than 20 objects in training",
        "label more, or train with --repeat-threshold 0.01 or higher",
    ),
    "similar-names": Kind(
        "warning", "classes whose names look like misspellings of each other", "correct the name where it was mistyped"
    ),
    "leakage": Kind(
        "error",
        "the same or nearly the same image in two splits: figures will look better than they are",
        "keep all images of one scene in one split",
    ),
    "near-duplicate": Kind(
        "warning", "the same or nearly the same image twice in a split", "keep one of them, unless it is wanted"
    ),
    "exif-turned": Kind(
        "note",
        "image that EXIF data turn or mirror",
        "see on the page that its boxes fit: they must be those of the image as viewers show it",
    ),
    "unlisted-picture": Kind("note", "image in a folder of the data set that no split lists", "list it or remove it"),
}


@dataclass(frozen=True)
class Finding:
    """All cases of one kind in one split.

    Attributes:
        kind: a key of KINDS.
        split: name of the split; of several, joined by ``+``.
    """

    kind: str
    split: str
    cases: tuple[Fault, ...]

    @property
    def grade(self) -> Grade:
        return KINDS[self.kind].grade


def gathered(split: str, cases: Iterable[Fault]) -> list[Finding]:
    """One Finding for each kind among the cases."""
    by_kind: dict[str, list[Fault]] = {}
    for case in cases:
        by_kind.setdefault(case.kind, []).append(case)
    return [Finding(kind, split, tuple(same)) for kind, same in by_kind.items()]


def in_order(findings: Iterable[Finding]) -> list[Finding]:
    """Errors first, then in the order of KINDS."""
    kinds = list(KINDS)
    return sorted(findings, key=lambda f: (GRADES.index(f.grade), kinds.index(f.kind)))
