"""Triton's kernels against the plain forms, in Triton's interpreter and on a GPU."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from typing import Any

import kernel_calls
import pytest
import torch
from kernel_calls import Call, every_call
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from aweigh.train.kernels.operators import NAMESPACE, OPERATORS

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-9}
CALLS = dict(every_call())
without_triton = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="Triton is not installed: make test EXTRAS=triton"
)


def require_equal(found: Any, call: Call) -> None:
    expected = OPERATORS[call.operator].plain(*call.arguments)
    dtype = next(a.dtype for a in call.arguments if isinstance(a, Tensor))
    if call.operator == "fitted_mixtures":
        found, expected = (_of_fitted(results, call.arguments[1]) for results in (found, expected))
        assert torch.equal(found[1], expected[1]), "rounds"
        assert torch.equal(found[2], expected[2]), "components"
        dtype = torch.float64  # whatever the values are
    torch.testing.assert_close(found, expected, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype], equal_nan=True)


def _of_fitted(results: tuple[Tensor, ...], valid: Tensor) -> tuple[Tensor, ...]:
    """What means something: rows with two values or more."""
    fitted = valid.sum(dim=1) >= 2
    state, rounds, component, log_likelihood = results
    within = valid & fitted[:, None]
    return state[:, fitted], rounds[fitted], component[within], log_likelihood[within]


@pytest.fixture(scope="module")
def interpreted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Results of all calls, from a process of its own: what Triton has imported stays as it is."""
    out = tmp_path_factory.mktemp("interpreted") / "results.pt"
    program, environment = kernel_calls.__file__, {**os.environ, "TRITON_INTERPRET": "1"}
    done = subprocess.run([sys.executable, program, str(out)], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    results: dict[str, Any] = torch.load(out)
    return results


@without_triton
@pytest.mark.parametrize("name", list(CALLS))
def test_a_kernel_equals_the_plain_form_in_the_interpreter(name: str, interpreted: dict[str, Any]) -> None:
    require_equal(interpreted[name], CALLS[name])


def test_every_operator_is_tested() -> None:
    assert {call.operator for call in CALLS.values()} == set(OPERATORS)


def on_cuda(value: Any) -> Any:
    return value.cuda() if isinstance(value, Tensor) else value


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", list(CALLS))
def test_a_kernel_equals_the_plain_form_on_a_gpu(name: str) -> None:
    call = CALLS[name]
    found = getattr(getattr(torch.ops, NAMESPACE), call.operator)(*map(on_cuda, call.arguments))
    found = found.cpu() if isinstance(found, Tensor) else tuple(t.cpu() for t in found)
    require_equal(found, call)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@without_triton
@pytest.mark.parametrize("name", sorted(OPERATORS))
def test_an_operator_launches_what_the_table_says_and_does_not_wait(name: str) -> None:
    """The count of launches on a CPU stands on this table."""
    of_all = [call for call in CALLS.values() if call.operator == name]
    arguments = tuple(map(on_cuda, max(of_all, key=lambda call: call.label in ("300 objects", "37x80")).arguments))
    operator = getattr(getattr(torch.ops, NAMESPACE), name)
    operator(*arguments)  # compiles
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as recorded:
            operator(*arguments)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    kernels = [
        event.name
        for event in recorded.events()
        if str(event.device_type).endswith("CUDA") and not event.name.startswith("Memcpy")
    ]
    assert len(kernels) == OPERATORS[name].launches, kernels
