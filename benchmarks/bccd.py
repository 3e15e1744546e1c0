"""Train, export and evaluate on BCCD (364 photographs of blood cells), several seeds: AP on val and test.

    python benchmarks/bccd.py --data DIR --method dw --minutes 10 --seeds 0,1,2 --out benchmarks/results/bccd_dw.json

Every step is the command a user would type. Model selection sees the validation split alone; the test split is read
once per run, at the end. For a one-to-one method the same weights are exported with NMS as well, to show how far it
would lift them.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from datetime import date
from pathlib import Path
from typing import Any

from aweigh.runtime.atomic import atomic_write
from aweigh.runtime.machine import describe
from aweigh.train.run_dir import commit, versions

FIGURES = ("AP", "AP50", "AP75", "AR100")


def aweigh(*arguments: str) -> dict[str, Any]:
    """One command with --json; its messages go to this process' stderr."""
    command = [sys.executable, "-m", "aweigh.runtime.cli", *arguments, "--json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(arguments)}: exit code {done.returncode}")
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def one_seed(options: argparse.Namespace, seed: int) -> dict[str, Any]:
    """Train, export, prove, evaluate."""
    name = f"bccd-{options.method}-{options.model}-{seed}"
    length = ["--epochs", str(options.epochs)] if options.epochs else ["--minutes", str(options.minutes)]
    trained = aweigh(
        *("train", "--data", options.data, "--method", options.method, "--model", options.model, *length),
        *("--seed", str(seed), "--project", options.project, "--name", name, "--exist-ok"),
    )
    checkpoint = Path(trained["checkpoint"])
    row: dict[str, Any] = {
        "seed": seed,
        **{key: trained[key] for key in ("iterations", "threads", "seconds")},
        "val": {name: trained["val"][name] for name in FIGURES},
        "test": evaluated(checkpoint, options.data, "test"),
    }
    posts = ["auto", "nms"] if options.method == "o2f" else ["auto"]
    for post in posts:
        artifact = checkpoint.with_name(f"best-{post}.onnx")
        exported = aweigh(
            *("export", "--model", str(checkpoint), "--post", post, "--batch", "1-8", "--out", str(artifact)),
            *("--data", options.data),
        )
        key = "onnx" if post == "auto" else f"onnx_{post}"
        row[key] = {"receipt": exported["verdict"], "test": evaluated(artifact, options.data, "test")}
    return row


def evaluated(model: Path, data: str, split: str) -> dict[str, Any]:
    metrics = aweigh("val", "--model", str(model), "--data", data, "--split", split)
    return {
        **{name: metrics[name] for name in FIGURES},
        "per_class": {c["name"]: c["AP"] for c in metrics["per_class"].values()},
    }


def spread(rows: list[dict[str, Any]], *path: str) -> dict[str, float]:
    """Mean, lowest and highest of a figure over the seeds."""
    values = []
    for row in rows:
        value: Any = row
        for key in path:
            value = value[key]
        values.append(value)
    return {"mean": statistics.mean(values), "min": min(values), "max": max(values)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--data", required=True)
    parser.add_argument("--method", default="dw")
    parser.add_argument("--model", default="r18")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--epochs", type=int, help="instead of minutes: the same length on any machine")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--project", default="runs/bench")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    rows = []
    for seed in map(int, options.seeds.split(",")):
        rows.append(one_seed(options, seed))
        kinds = [key for key in ("onnx", "onnx_nms") if key in rows[0]]
        report = {
            "what": f"BCCD, {options.method}, {options.model}, from scratch",
            "date": date.today().isoformat(),
            "command": " ".join(["python", "benchmarks/bccd.py", *sys.argv[1:]])
            .replace(options.data, "BCCD")
            .replace(options.project, "RUNS"),
            "machine": describe(),
            "versions": versions(),
            "commit": commit(),
            "summary": {
                "checkpoint": {name: spread(rows, "test", name) for name in FIGURES},
                **{kind: {name: spread(rows, kind, "test", name) for name in FIGURES} for kind in kinds},
            },
            "runs": rows,
        }
        with atomic_write(options.out) as temporary:
            temporary.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    for kind, figures in report["summary"].items():
        line = "  ".join(f"{name} {v['mean']:.3f} ({v['min']:.3f} to {v['max']:.3f})" for name, v in figures.items())
        print(f"test, {kind}: {line}")


if __name__ == "__main__":
    main()
