"""The device asked for: refused where it is not there; on a GPU, fp32 that is fp32, and whole runs of every method."""

from __future__ import annotations

import csv
import dataclasses
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from aweigh.runtime.device import Device
from aweigh.runtime.errors import BadInput, CannotRun
from aweigh.runtime.opening import OpenOptions
from aweigh.train.checkpoint import load_checkpoint
from aweigh.train.config import TrainConfig
from aweigh.train.data.open import load_split
from aweigh.train.evaluation.predictors import open_predictor
from aweigh.train.evaluation.run import evaluate_network
from aweigh.train.methods import METHODS
from aweigh.train.process.device import computes_bf16, resolve_device, training_precision
from aweigh.train.run.session import train

on_a_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "cpu:0", ""])
def test_other_words_are_refused(name: str) -> None:
    with pytest.raises(BadInput, match="expected auto, cpu, cuda or cuda:N"):
        resolve_device(name)


def test_auto_is_fp32_on_a_cpu_that_would_emulate_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    for there, expected in ((True, "bf16"), (False, "fp32")):
        monkeypatch.setattr(
            torch.cpu, "get_capabilities", lambda there=there: {"avx2": True, "avx512_bf16": there}, raising=False
        )
        assert training_precision("auto", cpu) == expected
        assert training_precision("auto", torch.device("cuda")) == "bf16"
        assert training_precision("bf16", cpu) == "bf16"
        assert training_precision("fp32", torch.device("cuda")) == "fp32"


def test_what_linux_and_torch_say_of_this_cpu_agrees(monkeypatch: pytest.MonkeyPatch) -> None:
    if not hasattr(torch.cpu, "get_capabilities") or not Path("/proc/cpuinfo").is_file():
        pytest.skip("there is only one of the two here")
    by_torch = computes_bf16()
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    assert computes_bf16() == by_torch


def test_a_gpu_that_is_not_there_is_refused() -> None:
    with pytest.raises(CannotRun, match=r"sees \d+ CUDA devices"):
        resolve_device("cuda:99")


@pytest.mark.gpu
@on_a_gpu
def test_fp32_on_a_gpu_is_not_tf32() -> None:
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = True
    device = resolve_device("cuda")
    torch.manual_seed(0)
    x, weight = torch.randn(2, 64, 40, 40, device=device), torch.randn(64, 64, 3, 3, device=device)
    exact = F.conv2d(x.double(), weight.double(), padding=1)
    for layout in (torch.contiguous_format, torch.channels_last):
        found = F.conv2d(x.to(memory_format=layout), weight.to(memory_format=layout), padding=1)
        # TF32 would leave about 5e-2.
        assert (found - exact).abs().max() < 1e-3
    a = torch.randn(256, 256, device=device)
    assert (a @ a - a.double() @ a.double()).abs().max() < 1e-3


@pytest.mark.gpu
@on_a_gpu
@pytest.mark.parametrize("method", METHODS)
def test_a_run_on_a_gpu_takes_the_course_of_one_on_the_cpu(method: str, tiny_config: TrainConfig) -> None:
    shared = dataclasses.replace(tiny_config, method=method, precision="fp32")
    runs = {
        device: dataclasses.replace(shared, device=Device.parse(device), name=device, workers=2 * (device == "cuda"))
        for device in ("cpu", "cuda")
    }
    losses = {device: _losses(config) for device, config in runs.items()}
    assert losses["cuda"] == pytest.approx(losses["cpu"], rel=0.02)
    best = runs["cuda"].run_dir / "weights" / "best.pt"
    _same_outputs(best)
    val = load_split(shared.data, "val")
    aps = []
    for device in runs:
        with open_predictor(best, OpenOptions(device)) as predictor:
            aps.append(evaluate_network(predictor, val)["AP"])
    assert aps[1] == pytest.approx(aps[0], abs=2e-3)


@pytest.mark.gpu
@on_a_gpu
def test_a_run_in_bf16_on_a_gpu(tiny_config: TrainConfig) -> None:
    on_the_gpu = dataclasses.replace(tiny_config, device=Device("cuda"))
    exact = _losses(dataclasses.replace(on_the_gpu, precision="fp32", name="fp32"))
    assert _losses(dataclasses.replace(on_the_gpu, name="bf16")) == pytest.approx(exact, rel=0.1)


def _losses(config: TrainConfig) -> list[float]:
    """Of each epoch of a run, the sum of its terms."""
    train(config)
    with (config.run_dir / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    return [sum(float(value) for name, value in row.items() if name.startswith("train/loss")) for row in rows]


def _same_outputs(checkpoint: Path) -> None:
    """Scores and boxes of all points, on both devices."""
    detector = load_checkpoint(checkpoint).detector()
    images_u8 = torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8)
    found = []
    with torch.inference_mode():
        for device in ("cpu", "cuda"):
            dense = detector.to(device).dense(images_u8.to(device))
            found.append((dense.boxes_xyxy.cpu(), dense.scores.cpu()))
    torch.testing.assert_close(found[1], found[0], atol=1e-3, rtol=1e-4)
