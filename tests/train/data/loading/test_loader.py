from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from aweigh.runtime.errors import BadInput, CannotRun
from aweigh.runtime.images.preprocess import prepare
from aweigh.runtime.images.reading import read_image
from aweigh.runtime.spec import InputSpec
from aweigh.train.data.loading.augment import Augment
from aweigh.train.data.loading.dataset import DetectionDataset
from aweigh.train.data.loading.loader import Batch, evaluation_loader, training_loader
from aweigh.train.data.open import load_split
from aweigh.train.data.records import Split

SPEC = InputSpec((64, 96))


def take(dataset: DetectionDataset, count: int, **options: Any) -> list[Batch]:
    stream = iter(training_loader(dataset, 5, seed=3, **options))
    batches = list(itertools.islice(stream, count))
    stream.close()
    return batches


def assert_equal(got: list[Batch], expected: list[Batch]) -> None:
    for a, b in zip(got, expected, strict=True):
        assert (a.epoch, a.position) == (b.epoch, b.position)
        assert torch.equal(a.images_u8, b.images_u8)
        assert torch.equal(a.record_index, b.record_index)
        assert all(map(torch.equal, a.boxes_xyxy, b.boxes_xyxy))
        assert all(map(torch.equal, a.labels, b.labels))


def test_batches_depend_neither_on_workers_nor_on_the_start(shapes_train: Split) -> None:
    dataset = DetectionDataset(shapes_train, SPEC, Augment(), seed=9)
    whole = take(dataset, 10)
    assert [(b.epoch, b.position) for b in whole] == [(i // 4, i % 4) for i in range(10)]
    assert_equal(take(dataset, 10, workers=2), whole)
    assert_equal(take(dataset, 3, start_epoch=1, start_batch=3), whole[7:])
    assert_equal(take(dataset, 3, start_epoch=1, start_batch=3, workers=1), whole[7:])


def test_a_batch(shapes_train: Split) -> None:
    dataset = DetectionDataset(shapes_train, SPEC, Augment(), seed=9)
    (batch,) = take(dataset, 1)
    assert (batch.images_u8.shape, batch.images_u8.dtype) == ((5, 64, 96, 3), torch.uint8)
    assert len(batch.boxes_xyxy) == len(batch.labels) == 5
    for i in range(5):
        sample = dataset[0, int(batch.record_index[i])]
        assert np.array_equal(batch.images_u8[i].numpy(), sample.image_u8)
        assert np.array_equal(batch.boxes_xyxy[i].numpy(), sample.boxes_xyxy)
        assert np.array_equal(batch.labels[i].numpy(), sample.labels)
        assert (batch.boxes_xyxy[i].dtype, batch.labels[i].dtype) == (torch.float32, torch.int64)


def test_loading_leaves_the_global_random_numbers_alone(shapes_train: Split) -> None:
    torch.manual_seed(1)
    state = torch.get_rng_state()
    take(DetectionDataset(shapes_train, SPEC, Augment()), 2, workers=1)
    assert torch.equal(torch.get_rng_state(), state)


def test_workers_start_beside_opencv_s_threads(shapes_train: Split) -> None:
    cv2.GaussianBlur(np.zeros((2000, 2000, 3), np.uint8), (31, 31), 0)
    assert len(take(DetectionDataset(shapes_train, SPEC, Augment()), 2, workers=1)) == 2


def test_ranks_share_a_batch(shapes_train: Split) -> None:
    dataset = DetectionDataset(shapes_train, SPEC, Augment(), seed=9)
    (whole,) = itertools.islice(training_loader(dataset, 10, seed=3), 1)
    shares = [next(iter(training_loader(dataset, 10, seed=3, rank=rank, world_size=2))) for rank in (0, 1)]
    for parts in (shares, whole.parts(3), whole.parts(99)):
        assert torch.equal(torch.cat([part.images_u8 for part in parts]), whole.images_u8)
        assert torch.equal(torch.cat([part.record_index for part in parts]), whole.record_index)
        assert torch.equal(torch.cat([box for part in parts for box in part.boxes_xyxy]), torch.cat(whole.boxes_xyxy))
        assert torch.equal(torch.cat([label for part in parts for label in part.labels]), torch.cat(whole.labels))
    assert [len(part.labels) for part in whole.parts(3)] == [4, 3, 3]
    assert len(whole.parts(99)) == 10


def test_pictures_of_several_sizes_are_padded_to_the_largest(coco_tree: Callable[..., Any], picture: Any) -> None:
    tree = coco_tree()
    picture(tree.root / tree.split / "0.jpg", (60, 40))
    tree.content["images"][0].update(width=40, height=60)
    spec = InputSpec((64, 96), resize="keep-ratio", pad_value=7)
    dataset = DetectionDataset(tree.add(100, [4, 4, 9, 9]).load(), spec)
    (batch,) = itertools.islice(training_loader(dataset, 3), 1)
    assert batch.images_u8.shape == (3, 96, 96, 3)
    for i, index in enumerate(batch.record_index.tolist()):
        image = dataset[0, index].image_u8
        height, width, _ = image.shape
        assert np.array_equal(batch.images_u8[i, :height, :width].numpy(), image)
        assert (batch.images_u8[i, height:] == 7).all()
        assert (batch.images_u8[i, :, width:] == 7).all()


@pytest.mark.parametrize("workers", [0, 1])
def test_an_unreadable_picture_is_named_without_a_traceback(coco_tree: Callable[..., Any], workers: int) -> None:
    split = coco_tree().load()
    split.records[1].path.write_bytes(b"")
    dataset = DetectionDataset(split, SPEC, Augment())
    with pytest.raises(BadInput, match=r"1\.jpg: not an image, the file is empty") as caught:
        next(iter(training_loader(dataset, 3, workers=workers)))
    assert "Traceback" not in str(caught.value)
    with pytest.raises(BadInput, match=r"1\.jpg"):
        list(evaluation_loader(split, SPEC, 2, workers))


class Deadly(DetectionDataset):
    def __getitem__(self, key: tuple[int, int]) -> Any:
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_worker_is_told(shapes_train: Split) -> None:
    with pytest.raises(CannotRun, match="DataLoader worker"):
        next(iter(training_loader(Deadly(shapes_train, SPEC), 5, workers=1)))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("batch_size", [1, 4])
def test_evaluation_shows_every_picture_once_as_prepare_makes_it(
    shapes_dir: Path, batch_size: int, workers: int
) -> None:
    split = load_split(shapes_dir, "val")
    loader = evaluation_loader(split, SPEC, batch_size, workers)
    batches = list(loader)
    assert len(batches) == len(loader)
    assert [i for batch in batches for i in batch.record_index.tolist()] == list(range(9))
    for batch in batches:
        for image, where, index in zip(batch.images_u8, batch.placements, batch.record_index, strict=True):
            expected, expected_where = prepare(read_image(split.records[int(index)].path), SPEC)
            np.testing.assert_array_equal(image.numpy(), expected)
            assert where == expected_where


def test_evaluation_is_shared_by_whole_batches(shapes_dir: Path) -> None:
    split = load_split(shapes_dir, "val")
    whole, *shares = (
        [batch.record_index.tolist() for batch in evaluation_loader(split, SPEC, 2, 0, rank, world_size)]
        for rank, world_size in ((0, 1), *((rank, 7) for rank in range(7)))
    )
    assert sorted(itertools.chain(*shares)) == whole  # the last processes get none
    assert max(map(len, shares)) == 1


def test_evaluation_keeps_pictures_of_one_size_together(coco_tree: Callable[..., Any], picture: Any) -> None:
    tree = coco_tree(pictures=5)
    for i in (1, 3):
        picture(tree.root / tree.split / f"{i}.jpg", (60, 40))
        tree.content["images"][i].update(width=40, height=60)
    batches = list(evaluation_loader(tree.load(), InputSpec((64, 96), resize="keep-ratio"), 4))
    assert [batch.record_index.tolist() for batch in batches] == [[0, 2, 4], [1, 3]]
    assert [tuple(batch.images_u8.shape[1:3]) for batch in batches] == [(64, 96), (96, 64)]


def test_ctrl_c_ends_quietly(shapes_dir: Path) -> None:
    """The whole process group gets SIGINT, as from a terminal, while training defers it: no worker is left."""
    code = f"""
import os, sys, warnings
warnings.simplefilter("error")
from aweigh.runtime.spec import InputSpec
from aweigh.train.data.loading.augment import Augment
from aweigh.train.data.loading.dataset import DetectionDataset
from aweigh.train.data.open import load_split
from aweigh.train.data.loading.loader import training_loader
from aweigh.runtime.machine.interrupt import first_interrupt
dataset = DetectionDataset(load_split({str(shapes_dir)!r}, "train"), InputSpec((64, 96)), Augment())
with first_interrupt() as interrupt:
    for number, _ in enumerate(training_loader(dataset, 4, workers=2)):
        if number == 5:
            print("going", flush=True)
        if interrupt.is_set():
            break
print("interrupted", flush=True)
"""
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "going\n"
    os.killpg(process.pid, signal.SIGINT)
    try:
        out, err = process.communicate(timeout=120)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    assert (process.returncode, out, err) == (0, "interrupted\n", "")
    for _ in range(100):
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            break
        time.sleep(0.1)
    else:
        pytest.fail("workers are left")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="page-locked memory needs a CUDA device")
def test_pinned_batches_are_the_same(shapes_train: Split) -> None:
    dataset = DetectionDataset(shapes_train, SPEC, Augment())
    pinned = take(dataset, 4, workers=1, pin_memory=True)
    assert all(batch.images_u8.is_pinned() for batch in pinned)
    assert_equal(pinned, take(dataset, 4))
