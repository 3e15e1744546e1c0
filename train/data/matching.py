"""The categories of a data set against those of a model: the same ids in the same order, or matched by name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from aweigh.runtime.errors import BadInput
from aweigh.runtime.spec import Category, ModelSpec
from aweigh.train.data.records import Split

_SHOWN = 5  # categories that a message names of each side


def require_categories(spec: ModelSpec, split: Split) -> None:
    """Raises BadInput where the model's categories are not those of the data set, in its order.

    The same ids under other names are a renamed data set, which is allowed; but a name that the model has at another
    id means that the order of the classes has changed, and every metric would be of the wrong classes.
    """
    ids = {category.name: category.id for category in spec.categories}
    same_ids = [c.id for c in spec.categories] == [c.id for c in split.categories]
    if same_ids and all(ids.get(c.name, c.id) == c.id for c in split.categories):
        return
    by_name = all(c.name in ids for c in split.categories)
    advice = "--match-names matches them by name" if by_name else "take the data it was trained for"
    raise BadInput(
        f"the model knows the categories {_listed(spec.categories, split.categories)}, the data set has "
        f"{_listed(split.categories, spec.categories)}; {advice}"
    )


def _listed(own: Sequence[Category], other: Sequence[Category]) -> str:
    """The number of categories, and the first at whose place the other side has another or none."""
    differing = [
        f"{category.id}: {category.name!r}"
        for position, category in enumerate(own)
        if position >= len(other) or category != other[position]
    ]
    more = ", ..." if len(differing) > _SHOWN else ""
    return f"({len(own)}) {', '.join(differing[:_SHOWN]) or 'all of them'}{more}"


def matched_by_name(split: Split, spec: ModelSpec) -> Split:
    """The split with the model's categories: each object has the one of its category's name.

    Classes of the model that the data set lacks have no object.

    Raises:
        BadInput: a name is used twice, or an object is of a class that the model does not know.
    """
    for whose, categories in (("the model", spec.categories), ("the data set", split.categories)):
        twice = sorted(name for name, count in Counter(c.name for c in categories).items() if count > 1)
        if twice:
            raise BadInput(f"--match-names: {whose} has the name {twice[0]!r} twice; leave the flag out")
    position = {category.name: i for i, category in enumerate(spec.categories)}
    to_label = np.array([position.get(category.name, -1) for category in split.categories], np.int64)
    records = tuple(replace(record, labels=to_label[record.labels]) for record in split.records)
    counts = Counter(label for record in split.records for label in record.labels.tolist() if to_label[label] < 0)
    if counts:
        unknown = ", ".join(f"{split.categories[label].name} ({count})" for label, count in counts.most_common(10))
        raise BadInput(
            f"--match-names: objects of classes that the model does not know: {unknown}; it knows "
            f"{', '.join(c.name for c in spec.categories)}"
        )
    return replace(split, categories=spec.categories, records=records)
