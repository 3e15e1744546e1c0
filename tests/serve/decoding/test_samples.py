"""The files that killed the server or passed its limits: refused with a reason, and the process goes on."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from hostile import encoded, many_scans, small_picture

from aweigh.runtime.errors import BadInput
from aweigh.runtime.spec import InputSpec
from aweigh.serve.decoding.pool import Decoders
from aweigh.serve.decoding.process import Bounds

BOUNDS = Bounds(pixels=50_000_000, file_bytes=1 << 20, seconds=30.0)


def _sample(name: str) -> bytes:
    path = Path(os.environ.get("AWEIGH_TEST_DATA", "none")) / "cases" / "hostile" / name
    if not path.is_file():
        pytest.skip("AWEIGH_TEST_DATA has no cases/hostile/")
    return path.read_bytes()


@pytest.mark.parametrize("name", ["segv.png", "small-jpeg-TEM", "bomb-tiff-slong", "4,000 scans"])
def test_the_samples_cost_their_own_request_and_no_process(name: str) -> None:
    data = many_scans(4000) if name == "4,000 scans" else _sample(name)
    replaced = []

    async def test() -> None:
        decoders = Decoders(1, BOUNDS, lambda: replaced.append(name))
        try:
            with pytest.raises(BadInput):
                await decoders.prepare(data, InputSpec((64, 96)))
            good = await decoders.prepare(encoded(small_picture(), "JPEG"), InputSpec((64, 96)))
            assert good.where.original_hw == (40, 60)
        finally:
            await decoders.close()

    asyncio.run(test())
    assert replaced == []
