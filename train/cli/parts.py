"""Flags for single values of a recipe's structured settings: ``augment.flip=0``, ``network.channels=64``."""

from __future__ import annotations

import argparse
import os
from dataclasses import fields
from typing import Any, get_type_hints

from aweigh.runtime.errors import BadInput
from aweigh.runtime.values import read_value
from aweigh.train.yaml_text import parse_yaml

# --network.head has a flag of its own, --head.
_OWN_FLAG = ("network.head",)


def add_parts(parser: argparse.ArgumentParser) -> None:
    """One flag for each field; an import of torch, so for the verb that is run alone."""
    for part, cls in _parts().items():
        group = parser.add_argument_group(f"{part}.NAME=VALUE", f"single values of the recipe's {part!r}")
        for item in fields(cls):
            key = f"{part}.{item.name}"
            if key not in _OWN_FLAG:
                text = f"default {item.default!r}" if part == "augment" else "default: of the --model"
                group.add_argument(f"--{key.replace('_', '-')}", dest=key, metavar="VALUE", help=text)


def set_parts(values: dict[str, Any], arguments: argparse.Namespace) -> None:
    """Put what flags give into a recipe's values. Raises BadInput for a value of another type."""
    for part, cls in _parts().items():
        hints = get_type_hints(cls)
        for item in fields(cls):
            key = f"{part}.{item.name}"
            text = None if key in _OWN_FLAG else getattr(arguments, key, None)
            if text is not None:
                flag = f"--{key.replace('_', '-')}"
                try:
                    value = parse_yaml(os.fsencode(text), flag)
                except BadInput as error:
                    raise BadInput(f"{flag} {text!r}: expected a number, true, false or a list as [1, 2]") from error
                single = {item.name: read_value(hints[item.name], value, flag, coerce=True)}
                values[part] = {**values.get(part, {}), **single}


def _parts() -> dict[str, Any]:
    from aweigh.train.data.loading.augment import Augment
    from aweigh.train.models.detector import Architecture

    return {"augment": Augment, "network": Architecture}
