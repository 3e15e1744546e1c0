"""Extension of griffe, which reads the docstrings: the section ``Example:`` is code, as its ``Examples:``."""

from __future__ import annotations

import re
from typing import Any

from griffe import Extension, Object


class CodeOfExamples(Extension):
    def on_object(self, *, obj: Object, **_: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = re.sub(r"(?m)^Example:$", "Examples:", obj.docstring.value)
