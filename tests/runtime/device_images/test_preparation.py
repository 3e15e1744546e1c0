"""Images resized by the graph that runs on devices, here by ONNX Runtime on the CPU: the bytes of OpenCV."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from resize_graph import PATH, resize_graph

from aweigh.runtime.device import Device
from aweigh.runtime.device_images.image import DeviceImage
from aweigh.runtime.device_images.preparation import OnDevice
from aweigh.runtime.errors import BadInput
from aweigh.runtime.images.preprocess import prepare
from aweigh.runtime.network import DeviceBatch
from aweigh.runtime.spec import InputSpec, ModelSpec

CPU = Device("cpu")


def in_memory(image_u8: npt.NDArray[np.uint8], room: int = 0) -> DeviceImage:
    """The image where ``room`` bytes lie behind each row, as decoders may leave them."""
    height, width, _ = image_u8.shape
    rows = np.pad(image_u8.reshape(height, -1), ((0, 0), (0, room)), constant_values=77)
    return DeviceImage((height, width, 3), rows.ctypes.data, rows.shape[1], rows, lambda: image_u8)


def content(batch: DeviceBatch) -> npt.NDArray[np.uint8]:
    return np.asarray(batch.owner.numpy())[: len(batch)]


def test_the_graph_is_the_one_that_its_source_makes() -> None:
    assert PATH.read_bytes() == resize_graph().SerializeToString(deterministic=True)


@pytest.mark.parametrize("policy", ["letterbox", "stretch", "keep-ratio"])
def test_the_bytes_of_the_host(policy: str) -> None:
    """Sizes at random, then those that OpenCV treats by themselves: the same, half, one pixel wide or high."""
    rng = np.random.default_rng(0)
    free = policy == "keep-ratio"
    spec = InputSpec((96, 160), resize=policy, dynamic_size=free, pad_value=114)  # type: ignore[arg-type]
    sizes = [tuple(rng.integers(1, 500, 2).tolist()) for _ in range(60)]
    sizes += [(96, 160), (192, 320), (192, 160), (1, 1), (1, 300), (300, 1), (2, 2)]
    preparation = OnDevice(CPU, 1, spec)
    for place, (height, width) in enumerate(sizes):
        image_u8 = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        expected, where = prepare(image_u8, spec)
        room = preparation.room(2, where.input_hw)
        preparation.resize(room, 1, in_memory(image_u8, room=place % 5), where, spec)
        np.testing.assert_array_equal(content(room)[1], expected, err_msg=f"{width}x{height}")
        assert not content(room)[0].any()


def test_a_small_batch_is_filled_up_with_what_is_there(spec: ModelSpec) -> None:
    preparation = OnDevice(CPU, 1, spec.input)
    room = preparation.room(4, (64, 96))
    filled = preparation.filled(room, replace(spec, batch=(3, 8)), count=1)
    assert (filled.shape, filled.address) == ((3, 64, 96, 3), room.address)
    assert preparation.filled(room, spec, count=2).shape[0] == 2


def test_other_interpolation_is_refused() -> None:
    with pytest.raises(BadInput, match="'area', on a device there is only 'linear'"):
        OnDevice(CPU, 1, InputSpec((64, 96), interpolation="area"))
