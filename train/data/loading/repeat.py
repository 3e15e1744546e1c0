"""Repeat factor sampling: images with rare classes are shown more often (LVIS, arXiv 1908.03195, Appendix B.2)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from aweigh.train.data.records import Split


def class_factors(split: Split, threshold: float) -> npt.NDArray[np.float64]:
    """[C] r(c) = max(1, sqrt(t / f(c))), f(c) being the share of the images that have an object of the class.

    Args:
        threshold: t, above 0: classes in a smaller share of the images are repeated.

    Returns:
        The factors in label order; 1 for a class without objects.
    """
    images = np.zeros(len(split.categories))
    for record in split.records:
        images[np.unique(record.labels[record.targets])] += 1
    shares = images / len(split.records)
    return np.where(images > 0, np.maximum(1.0, np.sqrt(threshold / np.maximum(shares, 1e-12))), 1.0)


def repeat_factors(split: Split, threshold: float) -> tuple[float, ...]:
    """How often an epoch is to show each image: the highest factor of its classes, 1 without objects."""
    factors = class_factors(split, threshold)
    return tuple(float(factors[record.labels[record.targets]].max(initial=1.0)) for record in split.records)


def describe_repeats(split: Split, threshold: float) -> str:
    """A line for the log: how many images an epoch shows, and the classes that are shown more often."""
    factors = class_factors(split, threshold)
    shown = int(sum(repeat_factors(split, threshold)))
    pairs = zip(split.categories, factors.tolist(), strict=True)
    more = ", ".join(f"{category.name} {factor:.2f}" for category, factor in pairs if factor > 1)
    return f"repeat factors: an epoch shows {shown} images of {len(split.records)}; {more or 'no class is that rare'}"
