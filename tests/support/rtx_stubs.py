"""Type stubs of TensorRT for RTX, made from the installed bindings: ``python rtx_stubs.py FOLDER``.

The folder then holds the packages ``tensorrt_rtx_bindings`` and ``tensorrt``, the second with the names of the first:
what is written for both flavours is checked against either.
"""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
from pathlib import Path

PACKAGE, MODULE = "tensorrt_rtx_bindings", "tensorrt_rtx"


def make_stubs(folder: Path) -> None:
    """Write the stubs. Raises CalledProcessError where stubgen, of mypy, fails."""
    shutil.rmtree(folder, ignore_errors=True)
    stubgen = [sys.executable, "-c", "from mypy.stubgen import main; main()"]  # compiled, so that -m does not find it
    subprocess.run([*stubgen, "-q", "-p", PACKAGE, "--inspect-mode", "-o", str(folder)], check=True)
    signatures = folder / PACKAGE / f"{MODULE}.pyi"
    signatures.write_text(mended(signatures.read_text()))
    names = f"# mypy: ignore-errors\nfrom {PACKAGE}.{MODULE} import *\n__version__: str\n"
    for package in (PACKAGE, "tensorrt"):
        (folder / package).mkdir(exist_ok=True)
        (folder / package / "__init__.pyi").write_text(names)


def mended(text: str) -> str:
    """Without what is no valid Python, and without names that hide builtins from the signatures.

    Example:
        >>> print(mended("bool: DataType\\ndef f(a: int = ..., b: int) -> bool: ..."))
        # mypy: ignore-errors
        <BLANKLINE>
        def f(a: int = ..., b: int = ...) -> bool: ...
    """
    text = re.sub(r"^bool: .*$", "", text, flags=re.MULTILINE)
    lines = [_with_defaults(line) if line.lstrip().startswith("def ") else line for line in text.splitlines()]
    mended_text = "\n".join(["# mypy: ignore-errors", *lines])
    ast.parse(mended_text)
    return mended_text


def _with_defaults(line: str) -> str:
    """A parameter behind one with a default gets one too: the bindings have one, and do not show it."""
    head, _, rest = line.partition(" = ...")
    if not rest:
        return line
    inside, closing, end = rest.rpartition(") ->")
    parameters = [p if not p or " = " in p or p.startswith("*") else f"{p} = ..." for p in inside.split(", ")]
    return f"{head} = ...{', '.join(parameters)}{closing}{end}"


if __name__ == "__main__":
    make_stubs(Path(sys.argv[1]))
