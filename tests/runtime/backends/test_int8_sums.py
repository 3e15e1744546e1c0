"""INT8 convolutions on this CPU: the sums that the file says, on CPUs whose 16-bit sums would overflow too."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from quantised import quantised_convolution

from aweigh.runtime.backends.onnxruntime_session import CPU, session_options
from aweigh.runtime.machine import facts


@pytest.mark.parametrize("sign", [1, -1])
def test_large_products_are_added_without_overflow(sign: int) -> None:
    """127 x 127, two of which do not fit into 16 bits of an unsigned and a signed factor (255 x 127 x 2 > 32767)."""
    weight = np.full((4, 16, 1, 1), 127 * sign, np.int8)
    x = np.full((1, 16, 8, 8), 127, np.float32)
    session = onnxruntime.InferenceSession(quantised_convolution(weight), session_options(onnxruntime, 1), [CPU])
    expected = np.clip(np.rint(16 * 127 * 127 * sign / 512), -128, 127) * 512
    np.testing.assert_array_equal(session.run(["out"], {"x": x})[0], np.full((1, 4, 8, 8), expected, np.float32))


@pytest.mark.parametrize(
    ("flags", "exact"), [("sse4_2 avx2", False), ("avx2 avx512f avx512_vnni", True), ("avx2 avx_vnni", True)]
)
def test_what_a_cpu_can_add(flags: str, exact: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\nflags\t\t: fpu {flags}\n")
    monkeypatch.setattr(facts, "_PROC", tmp_path)
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    assert facts.sums_int8_exactly() == exact
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    assert facts.sums_int8_exactly()
