"""The folder of a training run: its settings, its progress, its results."""

from __future__ import annotations

import csv
import io
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import yaml

from aweigh.runtime.atomic import atomic_write
from aweigh.runtime.errors import BadInput
from aweigh.runtime.files.reading import read_once
from aweigh.runtime.json_text import parse_json
from aweigh.runtime.machine.facts import describe
from aweigh.runtime.values import shown
from aweigh.train.tracking.lock import RunLock
from aweigh.train.yaml_text import parse_yaml

SUMMARY_NAME, SPLITS_NAME = "summary.json", "splits.json"
_COLUMN = r"[\w/.-]{1,80}"
LIBRARIES = ("aweigh", "torch", "lightning-fabric", "numpy", "opencv-python-headless", "pycocotools")


class RunDir:
    """``args.yaml``, ``env.json``, ``results.csv``, ``summary.json`` and ``weights/`` of one run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.best = path / "weights" / "best.pt"
        self.last = path / "weights" / "last.pt"
        self.results = path / "results.csv"
        self._lock = RunLock(path)

    def require_free(self, exist_ok: bool) -> None:
        """Raises BadInput where a run of that name exists and may not be replaced."""
        if (self.path / "weights").exists() and not exist_ok:
            raise BadInput(
                f"{self.path}: a run of this name exists; take another --name, --resume it, or give --exist-ok"
            )

    def create(self, exist_ok: bool) -> None:
        """Make the folder and lock it, until ``close``.

        An old run's state and results are removed; its best weights stay until the new run has some.

        Raises:
            BadInput: as ``require_free``, or another process writes there.
        """
        self.require_free(exist_ok)
        self.path.mkdir(parents=True, exist_ok=True)
        self._lock.acquire()
        self.require_free(exist_ok)  # another run may have begun and ended since
        for old in (self.last, self.results):
            old.unlink(missing_ok=True)
        (self.path / "weights").mkdir(parents=True, exist_ok=True)

    def lock(self) -> None:
        """Lock the folder of a run that is to go on, until ``close``. Raises BadInput where another process has it."""
        self._lock.acquire()

    def close(self) -> None:
        """Let other processes write here."""
        self._lock.release()

    def write_args(self, args: dict[str, Any]) -> None:
        self._write("args.yaml", yaml.safe_dump(args, sort_keys=False, allow_unicode=True))

    def recorded(self, name: str) -> Any:
        """An entry of ``resolved`` in args.yaml; None where it has none. Raises BadInput where it cannot be read."""
        path = self.path / "args.yaml"
        args = parse_yaml(read_once(path), str(path))
        resolved = args.get("resolved") if isinstance(args, dict) else None
        if not isinstance(resolved, dict):
            raise BadInput(f"{path}: expected settings with an entry resolved, as aweigh writes them")
        return resolved.get(name)

    def write_env(self, device: str, threads: int) -> None:
        environment = {**describe(), "versions": versions(), "commit": commit(), "device": device, "threads": threads}
        self.write_json("env.json", environment)

    def write_json(self, name: str, value: Any) -> None:
        self._write(name, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")

    def read_json(self, name: str) -> Any:
        """What ``write_json`` wrote. Raises BadInput where it is not there, or is no JSON."""
        path = self.path / name
        return parse_json(read_once(path), str(path))

    def rows(self) -> list[dict[str, str]]:
        """The rows of results.csv, numbers as text; empty where there is no such file.

        Raises:
            BadInput: not as aweigh writes it.
        """
        if not self.results.exists():
            return []
        where = f"{self.results}: not as aweigh writes it; remove it to go on without the rows so far"
        try:
            text = read_once(self.results).decode("utf-8")
            rows = list(csv.DictReader(io.StringIO(text, newline=""), strict=True))
        except (UnicodeDecodeError, csv.Error) as error:
            raise BadInput(f"{where} ({error})") from error
        odd_name = next((name for row in rows[:1] for name in row if not re.fullmatch(_COLUMN, name or "")), None)
        if odd_name is not None:
            raise BadInput(f"{where} (column {shown(odd_name)})")
        for number, row in enumerate(rows, start=1):
            if not re.fullmatch("[0-9]{1,18}", row.get("iteration") or ""):
                raise BadInput(f"{where} (row {number}: iteration {shown(row.get('iteration'))})")
            odd = next((item for item in row.items() if not _is_number_or_empty(item[1])), None)
            if odd is not None:
                raise BadInput(f"{where} (row {number}: {shown(odd[0])} is {shown(odd[1])}, expected a number)")
        return rows

    def append_row(self, row: dict[str, Any]) -> None:
        """Add a row. Rows of the same or a later iteration, written before a resume, are removed."""
        kept = [r for r in self.rows() if int(r["iteration"]) < int(row["iteration"])]
        text = io.StringIO()
        names = list(dict.fromkeys([name for r in [*kept, row] for name in r]))
        writer = csv.DictWriter(text, names, restval="")
        writer.writeheader()
        writer.writerows([*kept, row])
        self._write("results.csv", text.getvalue())

    def _write(self, name: str, text: str) -> None:
        with atomic_write(self.path / name) as temporary:
            temporary.write_text(text, encoding="utf-8")


def _is_number_or_empty(text: object) -> bool:
    try:
        return isinstance(text, str) and (not text or isinstance(float(text), float))
    except ValueError:
        return False


def versions() -> dict[str, str]:
    """Installed versions of the libraries that results depend on."""
    from importlib.metadata import PackageNotFoundError, version

    installed = {}
    for name in LIBRARIES:
        try:
            installed[name] = version(name)
        except PackageNotFoundError:
            continue
    return installed


def commit() -> str:
    """The commit of the source tree aweigh runs from, ``+changes`` behind it where files differ from the commit.

    ``unknown`` for an installed package.
    """
    here = Path(__file__).resolve().parents[1]
    try:
        head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, timeout=10)
        if head.returncode != 0:
            return "unknown"
        dirty = subprocess.run(
            ["git", "status", "--porcelain", "-uno"], cwd=here, capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return head.stdout.strip() + ("+changes" if dirty.stdout.strip() else "")
