"""The categories of a data set against those of a model: the same ids in the same order, or matched by name."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np

from aweigh.runtime.errors import BadInput
from aweigh.runtime.spec import ModelSpec
from aweigh.train.data.records import Split


def require_categories(spec: ModelSpec, split: Split) -> None:
    """Raises BadInput where the model's categories are not those of the data set, in its order."""
    if [c.id for c in spec.categories] == [c.id for c in split.categories]:
        return
    known = {c.name for c in spec.categories}
    by_name = all(c.name in known for c in split.categories)
    advice = "--match-names matches them by name" if by_name else "take the data it was trained for"
    raise BadInput(f"the model knows the categories {spec.names}, the data set has {split.names}; {advice}")


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
