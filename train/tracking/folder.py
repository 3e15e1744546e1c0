"""The folder of a training run: what was asked, what happened, what came out."""

from __future__ import annotations

import csv
import io
import json
import subprocess
from pathlib import Path
from typing import Any

import yaml

from aweigh.runtime.atomic import atomic_write
from aweigh.runtime.errors import BadInput
from aweigh.runtime.machine.facts import describe

LIBRARIES = ("aweigh", "torch", "lightning-fabric", "numpy", "opencv-python-headless", "pycocotools")


class RunDir:
    """``args.yaml``, ``env.json``, ``results.csv``, ``summary.json`` and ``weights/`` of one run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.best = path / "weights" / "best.pt"
        self.last = path / "weights" / "last.pt"
        self.results = path / "results.csv"

    @classmethod
    def create(cls, path: Path, exist_ok: bool) -> RunDir:
        """Raises BadInput where a run of that name is there already."""
        if (path / "weights").exists() and not exist_ok:
            raise BadInput(f"{path}: a run of this name exists; take another --name, --resume it, or give --exist-ok")
        run = cls(path)
        for old in (run.best, run.last, run.results):
            old.unlink(missing_ok=True)
        (path / "weights").mkdir(parents=True, exist_ok=True)
        return run

    def write_args(self, args: dict[str, Any]) -> None:
        self._write("args.yaml", yaml.safe_dump(args, sort_keys=False, allow_unicode=True))

    def recorded(self, name: str) -> Any:
        """An entry of ``resolved`` in args.yaml; None where there is none."""
        args = yaml.safe_load((self.path / "args.yaml").read_text(encoding="utf-8"))
        return args["resolved"].get(name)

    def write_env(self, device: str, threads: int) -> None:
        environment = {**describe(), "versions": versions(), "commit": commit(), "device": device, "threads": threads}
        self.write_json("env.json", environment)

    def write_json(self, name: str, value: Any) -> None:
        self._write(name, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")

    def read_json(self, name: str) -> Any:
        """What ``write_json`` wrote. Raises FileNotFoundError where it is not there."""
        return json.loads((self.path / name).read_text(encoding="utf-8"))

    def rows(self) -> list[dict[str, str]]:
        """results.csv as it is; empty where it is not there."""
        if not self.results.exists():
            return []
        with self.results.open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))

    def append_row(self, row: dict[str, Any]) -> None:
        """Add a row; rows of the same or a later iteration, from before a resume, go."""
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


def versions() -> dict[str, str]:
    """Of the libraries a result depends on."""
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def commit() -> str:
    """Of the source tree aweigh runs from, with ``+changes`` where it was changed; ``unknown`` when installed."""
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
