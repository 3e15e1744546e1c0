"""What lower precision costs in AP and brings in speed.

    aweigh export --model BEST.pt --data DATA --precision int8 --out NAME.onnx          # and fp16, for the receipts
    aweigh export --model BEST.pt --data DATA --imgsz 640 --batch 1 --precision int8 --out int8.onnx   # and fp32
    python benchmarks/precision.py --receipts NAME.receipt.json,... --fp32 fp32.onnx --others int8.onnx,... --out FILE

AP is copied from the receipts, which hold trained model and exported file on the same pictures. Speed: all files run
in turns on one picture in one process, two threads; what counts is the ratio to fp32.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from aweigh.runtime.atomic import atomic_write
from aweigh.runtime.backends.onnxruntime import OnnxRuntimeBackend
from aweigh.runtime.inspection import file_sha256, inspect_model
from aweigh.runtime.machine import describe
from aweigh.train.run_dir import commit, versions

WARM_UP = 3


def accuracy(receipt: Path) -> dict[str, Any]:
    """The figures of one receipt. Raises KeyError where it has no AP: exported without --data."""
    content = json.loads(receipt.read_text())
    spec, ap = content["spec"], content["ap"]
    worst = max((s["max_rel"], s["stage"]) for run in content["runs"] for s in run["stages"])
    return {
        "method": spec["method"],
        "architecture": spec["architecture"],
        "input_hw": spec["input"]["size_hw"],
        "precision": spec["precision"],
        "verdict": content["verdict"],
        "split": ap["split"],
        "images": ap["images"],
        "trained": {name: ap["trained"][name] for name in ("AP", "AP50", "AP75", "AR100")},
        "exported": {name: ap["exported"][name] for name in ("AP", "AP50", "AP75", "AR100")},
        "ap_difference": ap["difference"]["AP"],
        "largest_stage_error": {"stage": worst[1], "relative": worst[0]},
        "matches": [run["match"] for run in content["runs"]],
        "bytes": content["bytes"],
        "checkpoint_sha256": content["parents"]["checkpoint_sha256"],
    }


def speed(files: list[Path], threads: int, rounds: int) -> list[dict[str, Any]]:
    """Median latency of each file, and the median of its ratios to the first, round by round."""
    backends = [OnnxRuntimeBackend(path, threads=threads) for path in files]
    size_hw = backends[0].spec.input.size_hw
    image_u8 = np.random.default_rng(0).integers(0, 256, (1, *size_hw, 3), dtype=np.uint8)
    times: list[list[float]] = [[] for _ in files]
    for _ in range(WARM_UP + rounds):
        for backend, taken in zip(backends, times, strict=True):
            start = time.perf_counter()
            backend.infer(image_u8)
            taken.append((time.perf_counter() - start) * 1000)
    rows = []
    for path, backend, taken in zip(files, backends, times, strict=True):
        ratios = sorted(a / b for a, b in zip(times[0][WARM_UP:], taken[WARM_UP:], strict=True))
        rows.append(
            {
                "file": path.name,
                "sha256": file_sha256(path),
                "architecture": backend.spec.architecture,
                "precision": backend.spec.precision,
                "encoding": (inspect_model(path)["precision"] or {}).get("encoding"),
                "input_hw": list(size_hw),
                "latency_ms": statistics.median(taken[WARM_UP:]),
                "times_fp32": statistics.median(ratios),
                "times_fp32_quartiles": [ratios[len(ratios) // 4], ratios[3 * len(ratios) // 4]],
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--receipts")
    parser.add_argument("--fp32", type=Path)
    parser.add_argument("--others")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--out", type=Path, help="the part measured is replaced, the other kept")
    options = parser.parse_args()
    if bool(options.fp32) != bool(options.others) or not (options.fp32 or options.receipts):
        parser.error("expected --receipts, or --fp32 with --others, or all three")
    parts: dict[str, Any] = {}
    if options.fp32:
        rows = speed([options.fp32, *map(Path, options.others.split(","))], options.threads, options.rounds)
        for row in rows:
            print(f"{row['file']:24} {row['latency_ms']:7.1f} ms, {row['times_fp32']:.2f} times the speed of fp32")
        what = f"batch 1, {options.threads} threads, {options.rounds} rounds in turns"
        parts["speed"] = _about(what) | {"results": rows}
    if options.receipts:
        figures = [accuracy(Path(name)) for name in options.receipts.split(",")]
        for figure in figures:
            print(
                f"{figure['method']:12} {figure['precision']}: AP {figure['ap_difference']:+.4f}, {figure['verdict']}"
            )
        parts["accuracy"] = _about("trained model and exported file, from the receipts") | {"results": figures}
    if options.out:
        before = json.loads(options.out.read_text()) if options.out.exists() else {}
        with atomic_write(options.out) as temporary:
            temporary.write_text(json.dumps(before | parts, indent=1) + "\n", encoding="utf-8")


def _about(what: str) -> dict[str, Any]:
    return {
        "what": what,
        "date": date.today().isoformat(),
        "command": " ".join(["python", "benchmarks/precision.py", *map(_name, sys.argv[1:])]),
        "machine": describe(),
        "versions": versions(),
        "commit": commit(),
    }


def _name(argument: str) -> str:
    """Files without their folders."""
    return ",".join(Path(part).name for part in argument.split(",")) if "/" in argument else argument


if __name__ == "__main__":
    main()
