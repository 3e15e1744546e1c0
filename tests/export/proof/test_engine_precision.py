"""What a receipt of an engine says of its precision."""

from __future__ import annotations

import pytest

from aweigh.export.proof.checks import check_engine
from aweigh.runtime.files.audit import Audit, LayerCount
from aweigh.runtime.files.engine import BuildSettings, EngineFile, PrecisionShare
from aweigh.runtime.files.fingerprint import Fingerprint
from aweigh.runtime.spec import Category, InputSpec, ModelSpec, PostSpec

BUILT = Fingerprint("1.7.1.116", "", "", "", "", "linux-x86_64")
FP16 = Audit((LayerCount("fp16", 46, 0, 226), LayerCount("fp32", 0, 32, 384)))
INT8 = Audit((LayerCount("int8", 41, 0, 60), LayerCount("fp32", 5, 32, 384)))


def engine(precision: str, audit: Audit | None, shares: tuple[PrecisionShare, ...] = ()) -> EngineFile:
    spec = ModelSpec("fcos", "nano", (Category(1, "cell"),), InputSpec((64, 96)), PostSpec("raw"), precision=precision)
    return EngineFile("0" * 64, 1, spec, BUILT, (), BuildSettings(), (), precision=shares, flavour="rtx", audit=audit)


@pytest.mark.parametrize(
    ("asked", "audit", "passed"),
    [("fp16", FP16, True), ("int8", INT8, True), ("fp16", INT8, False), ("fp32", FP16, False), ("int8", FP16, False)],
)
def test_without_an_inspector_the_audit_decides(asked: str, audit: Audit, passed: bool) -> None:
    [check] = check_engine(engine(asked, audit))
    assert (check.name, check.passed) == ("precision", passed)
    assert check.measured == audit.summary()


def test_the_inspector_decides_where_there_is_one() -> None:
    share = PrecisionShare("FP32", 3, 1.0, 12, 1.0, 96, 1.0)
    [check] = check_engine(engine("fp16", FP16, (share,)))
    assert not check.passed
    assert "FP32 100.0% of layers" in check.measured


def test_neither_is_a_failure() -> None:
    [check] = check_engine(engine("fp16", None))
    assert not check.passed
