from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from aweigh.runtime.bench.plan import BenchPlan
from aweigh.runtime.bench.post_share import nodes_behind_convolutions, post_share
from aweigh.runtime.bench.result import Stages, Statistics
from aweigh.runtime.bench.run import bench_models
from aweigh.runtime.cli.bench import print_bench
from aweigh.runtime.cli.main import main
from aweigh.runtime.errors import BadInput
from aweigh.runtime.files.digest import file_sha256
from aweigh.runtime.files.onnx import Node
from aweigh.runtime.opening import OpenOptions

STAGES = [f.name for f in dataclasses.fields(Stages)]
pytestmark = pytest.mark.usefixtures("only_runtime_verbs")
MakeModel = Callable[..., Path]


def test_json_of_two_models_and_two_batches(
    make_model: MakeModel, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = make_model("a.onnx"), make_model("b.onnx", input={"size_hw": (32, 32)})
    arguments = ["--model", str(first), "--model", str(second), "--batch", "1,3", "--iters", "3", "--threads", "1"]
    assert main(["bench", *arguments, "--source", str(folder), "--json"]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    report = json.loads(captured.out)
    assert [(r["model"], r["batch"], r["height"]) for r in report["results"]] == [
        (str(first), 1, 64),
        (str(first), 3, 64),
        (str(second), 1, 32),
        (str(second), 3, 32),
    ]
    for result in report["results"]:
        assert result["iterations"] == 3
        assert (result["threads"], result["device"], result["post"]) == (1, "cpu", "none")
        assert list(result["stages"]) == STAGES
        for times in result["stages"].values():
            assert 0 < times["p50_ms"] <= times["p90_ms"] <= times["p99_ms"]
        means = {stage: times["mean_ms"] for stage, times in result["stages"].items()}
        assert means["total"] == pytest.approx(sum(means[s] for s in STAGES if s != "total"))
        assert 0 < result["fps"] <= 1000 * result["batch"] / means["total"]
        assert result["overhead"]["mean_ms"] == pytest.approx(means["total"] - means["network"])
        assert result["input"]["mean_ms"] == pytest.approx(means["decode"] + means["preprocess"])
        assert result["fps_network"] == pytest.approx(1000 * result["batch"] / means["network"])
        assert 0 < result["post_share"] < 1
        assert result["post_ms"] == pytest.approx(result["post_share"] * means["network"])
        assert 10 < result["memory_start_mb"] <= result["memory_open_mb"] <= result["memory_peak_mb"]
        assert result["memory_end_mb"] <= result["memory_peak_mb"]
        cold = result["cold_start"]
        assert cold["total_ms"] == pytest.approx(cold["import_ms"] + cold["open_ms"] + cold["first_ms"])
        assert min(cold.values()) > 0
        assert len(result["warmup_ms"]) >= 2
        assert result["sha256"] == file_sha256(result["model"])
        assert result["network_device"] is None
        assert result["jit_ms"] is None
        assert {"quiet", "stolen_share", "mhz"} <= set(result["conditions"])
    assert report["machine"]["cores"] >= 1
    assert str(folder) in report["timed"]["pictures"]
    assert "post-processing included" in report["timed"]["network"]


def test_clients_at_once_share_the_detector(
    make_model: MakeModel, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--batch", "2", "--iters", "3", "--threads", "1", "--concurrency", "1,3", "--source", str(folder)]
    assert main(["bench", "--model", str(make_model()), *arguments, "--json"]) == 0
    one, three = json.loads(capsys.readouterr().out)["results"]
    assert (one["concurrency"], one["iterations"]) == (1, 3)
    assert (three["concurrency"], three["iterations"]) == (3, 9)
    # Three clients cannot do more than three times what their own times allow.
    assert 0 < three["fps"] <= 3 * 2 * 1000 / three["stages"]["total"]["mean_ms"]


def test_device_memory_of_an_engine_is_printed(make_model: MakeModel, capsys: pytest.CaptureFixture[str]) -> None:
    report = bench_models([BenchPlan(str(make_model()), 1, iterations=1)])
    [result] = report.results
    assert result.device_memory is None
    result = dataclasses.replace(
        result,
        jit_ms=812.4,
        network_device=Statistics(1.25, 1.25, 1.25, 1.25),
        conditions=dataclasses.replace(
            result.conditions, quiet=False, stolen_share=0.2, others_share=0.4, throttled_ms=7.0
        ),
        device_memory={"weights": None, "scratch": 2_000_000, "lanes": 2, "device_free": 3_500_000},
    )
    print_bench(dataclasses.replace(report, results=(result,)), Console(width=160))
    printed = capsys.readouterr().out
    assert "batch 1: 2 contexts, scratch 2.0 MB, device_free 3.5 MB" in printed
    assert "network by the GPU's clock 1.25 ms" in printed
    assert "in 812 ms of opening" in printed
    assert "20% of the processors' time was taken" in printed
    assert "held it up for 7 ms" in printed


def test_table_says_what_is_timed(make_model: MakeModel, capsys: pytest.CaptureFixture[str]) -> None:
    path = make_model(post={"kind": "nms", "nms_form": "onnx"}, input={"resize": "keep-ratio", "dynamic_size": True})
    command = ["bench", "--model", str(path), "--batch", "2", "--seconds", "0.01"]
    assert main(command) == 0
    short = capsys.readouterr().out
    assert "warm-up" not in short
    assert not any(line.startswith("machine:") for line in short.splitlines())  # a busy "virtual machine:" may be named
    assert "--explain prints what the columns contain" in short
    assert main([*command, "--explain"]) == 0
    printed = capsys.readouterr().out
    for words in ("p50 / p90 / p99", "nms (onnx)", "1280x720", "warm-up", "peak resident memory", "machine:"):
        assert words in printed


def test_memory_is_that_of_the_model_alone(make_model: MakeModel) -> None:
    """What this process holds must not show in the figures of the processes it starts."""
    plan = BenchPlan(str(make_model()), batch=1, opening=OpenOptions(threads=1), iterations=1)
    before = bench_models([plan]).results[0].memory_peak_mb
    ballast = np.ones(300_000_000, np.uint8)
    after = bench_models([plan]).results[0].memory_peak_mb
    assert len(ballast) == 300_000_000
    assert before is not None
    assert after is not None
    assert abs(after - before) < 100


def test_batches_that_a_file_refuses(make_model: MakeModel, capsys: pytest.CaptureFixture[str]) -> None:
    fixed = make_model("fixed.onnx", batch=(2, 2))
    assert main(["bench", "--model", str(fixed), "--batch", "2,8"]) == 2
    assert "fixed.onnx: --batch 8, this file takes 2; export it with --batch 1-8" in capsys.readouterr().err


def test_errors_of_the_measuring_process_come_through(make_model: MakeModel, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="exported with --post raw"):
        bench_models([BenchPlan(str(make_model(post={"kind": "raw"})), batch=1, iterations=1)])
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(BadInput, match="no images in it"):
        bench_models([BenchPlan(str(make_model()), batch=1, iterations=1, source=str(empty))])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--iters", "0"], "--iters 0: expected at least 1"),
        (["--seconds", "0"], "--seconds 0.0: expected more than 0"),
        (["--batch", "0"], "--batch '0'"),
        (["--concurrency", "0"], "--concurrency '0'"),
        (["--device", "toaster"], "expected cpu, cuda, cuda:N, gpu or gpu:N"),
        (["--threads", "0"], "threads 0: expected at least 1"),
    ],
)
def test_bad_flags(model: Path, arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--model", str(model), *arguments]) == 2
    assert words in capsys.readouterr().err


def test_nodes_behind_convolutions() -> None:
    def node(name: str, kind: str, inputs: str, outputs: str) -> Node:
        return Node(name, kind, tuple(inputs.split()), tuple(outputs.split()))

    nodes = [
        node("cast", "Cast", "images", "x"),
        node("shape", "Shape", "images", "s"),  # no convolution before it
        node("stem", "Conv", "x w1", "a"),
        node("relu", "Relu", "a", "b"),  # leads to a convolution
        node("head3", "Conv", "b w2", "c"),
        node("decode3", "Exp", "c", "d"),  # executed before the last convolution, and still behind its own
        node("head4", "QLinearConv", "b w3", "e"),
        node("join", "Concat", "d e s", "f"),
        node("nms", "NonMaxSuppression", "f", "boxes"),
    ]
    assert nodes_behind_convolutions(nodes) == {"decode3", "join", "nms"}
    assert nodes_behind_convolutions([nodes[0]]) == frozenset()


def test_post_share_needs_a_convolution(model: Path, tmp_path: Path) -> None:
    share = post_share(model, "cpu", 1, np.zeros((1, 64, 96, 3), np.uint8), 2, tmp_path)
    assert share is not None
    assert 0 < share < 1
