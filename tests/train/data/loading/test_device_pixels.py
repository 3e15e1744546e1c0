"""Pixels made on the training device are those that the host makes; the CPU is such a device too."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aweigh.runtime.errors import BadInput
from aweigh.runtime.spec import InputSpec
from aweigh.train.data.loading.augment import Augment, Axis, Variant, choose, draw
from aweigh.train.data.loading.dataset import DetectionDataset
from aweigh.train.data.loading.device_pixels import draw_all
from aweigh.train.data.loading.loader import Batch, training_loader
from aweigh.train.data.records import Split

CPU = torch.device("cpu")
STILL_COLOURS = Augment(scale=0.8, shift=0.1, brightness=0, contrast=0, saturation=0, hue=0)
STRONG = Augment(scale=0.8, shift=0.1, brightness=1, contrast=1, saturation=1, hue=1)
SPECS = (
    InputSpec((96, 128)),
    InputSpec((64, 128), resize="stretch"),
    InputSpec((64, 120), resize="keep-ratio", pad_value=7),
    InputSpec((512, 448)),
)


def noise(size_hw: tuple[int, int], seed: int = 0) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (*size_hw, 3), dtype=np.uint8)


def on_a_device(
    windows: list[npt.NDArray[np.uint8]], variants: list[Variant], spec: InputSpec, device: torch.device = CPU
) -> npt.NDArray[np.uint8]:
    flat = torch.from_numpy(np.concatenate([window.reshape(-1) for window in windows]))
    found = draw_all(flat, variants, spec, device)
    assert found.device.type == device.type
    return np.asarray(found.cpu().numpy(), np.uint8)


def one(size_hw: tuple[int, int], spec: InputSpec, config: Augment, seed: int) -> tuple[Any, Any]:
    """What both make of an image, as integers."""
    image = noise(size_hw, seed)
    variant, _, _ = choose(size_hw, np.zeros((0, 4), np.float32), np.random.default_rng(seed), spec, config)
    host = draw(variant.window(image), variant, spec)
    (device,) = on_a_device([variant.window(image)], [variant], spec)
    assert device.shape == host.shape
    return host.astype(int), device.astype(int)


@settings(max_examples=150, deadline=None)
@given(
    size_hw=st.tuples(st.integers(1, 300), st.integers(1, 300)),
    spec=st.sampled_from(SPECS),
    seed=st.integers(0, 2**32),
)
def test_any_picture_is_resized_to_the_same_bytes(size_hw: tuple[int, int], spec: InputSpec, seed: int) -> None:
    host, device = one(size_hw, spec, STILL_COLOURS, seed)
    np.testing.assert_array_equal(device, host)


@settings(max_examples=100, deadline=None)
@given(size_hw=st.tuples(st.integers(1, 200), st.integers(1, 200)), seed=st.integers(0, 2**32))
def test_colours_differ_by_one_grey_level_at_most(size_hw: tuple[int, int], seed: int) -> None:
    host, device = one(size_hw, SPECS[0], STRONG, seed)
    assert np.abs(device - host).max() <= 1


def test_half_the_size_is_the_mean_of_four() -> None:
    spec, image = InputSpec((40, 60)), noise((80, 120))
    variant = Variant(Axis(0, 80, 0, 40), Axis(0, 120, 0, 60), (40, 60), None, flipped=True)
    (found,) = on_a_device([image], [variant], spec)
    np.testing.assert_array_equal(found, draw(image, variant, spec))
    assert found[0, -1, 0] == (image[:2, :2, 0].astype(int).sum() + 2) // 4


def batches(split: Split, spec: InputSpec, on: Literal["host", "device"], **options: Any) -> list[Batch]:
    dataset = DetectionDataset(split, spec, Augment(), seed=5, augment_on=on)
    stream = iter(training_loader(dataset, 3, seed=3, **options))
    taken = list(itertools.islice(stream, 6))
    stream.close()
    return taken


@pytest.mark.parametrize("spec", SPECS)
def test_batches_are_those_of_the_host(coco_tree: Callable[..., Any], picture: Any, spec: InputSpec) -> None:
    tree = coco_tree(pictures=7).add(100, [4, 4, 30, 20]).add(103, [1, 1, 12, 9]).add(105, [0, 0, 40, 30])
    for number, (height, width) in enumerate([(60, 40), (33, 71), (200, 210)]):
        picture(tree.root / tree.split / f"{number}.jpg", (height, width))
        tree.content["images"][number].update(width=width, height=height)
    split = tree.load()
    host, device, workers = (
        batches(split, spec, "host"),
        batches(split, spec, "device"),
        batches(split, spec, "device", workers=2),
    )
    for a, b, c in zip(host, device, workers, strict=True):
        assert a.images_u8.shape == b.images_u8.shape
        assert (a.images_u8.int() - b.images_u8.int()).abs().max() <= 1
        assert torch.equal(b.images_u8, c.images_u8)
        assert torch.equal(a.record_index, b.record_index)
        assert all(map(torch.equal, a.boxes_xyxy, b.boxes_xyxy))
        assert all(map(torch.equal, a.labels, b.labels))
        assert (a.epoch, a.position) == (b.epoch, b.position)


def test_what_a_device_cannot_do_is_refused(shapes_train: Split) -> None:
    area = InputSpec((64, 96), interpolation="area")
    with pytest.raises(BadInput, match="augment_on device: expected interpolation 'linear', got 'area'"):
        DetectionDataset(shapes_train, area, Augment(), augment_on="device")
    with pytest.raises(BadInput, match="augment_on device: expected an augmentation, got None"):
        DetectionDataset(shapes_train, SPECS[0], augment_on="device")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("config", [STILL_COLOURS, Augment()])
def test_a_gpu_makes_the_same_pixels(config: Augment) -> None:
    for spec in SPECS:
        images = [noise(size_hw, seed) for seed, size_hw in enumerate([(150, 200), (31, 40), (300, 77), (192, 256)])]
        rng = np.random.default_rng(7)
        none = np.zeros((0, 4), np.float32)
        variants = [choose((i.shape[0], i.shape[1]), none, rng, spec, config)[0] for i in images]
        windows = [variant.window(image) for variant, image in zip(variants, images, strict=True)]
        found = on_a_device(windows, variants, spec, torch.device("cuda"))
        again = on_a_device(windows, variants, spec)
        colours = any(variant.matrix is not None for variant in variants)
        assert np.abs(found.astype(int) - again.astype(int)).max() <= int(colours)
