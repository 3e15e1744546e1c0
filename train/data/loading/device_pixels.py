"""Training images resized, coloured and flipped on the training device: what ``augment.draw`` does, with torch.

Resizing is OpenCV's INTER_LINEAR of 8 bits, which computes in whole numbers, and gives the same bytes here. Its colour
transform rounds in fixed point, torch in floating point, so that a grey level may differ by one.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from aweigh.runtime.errors import BadInput
from aweigh.runtime.spec import InputSpec
from aweigh.train.data.loading.augment import Variant
from aweigh.train.kernels.transfer import on_device

_ONE = 2048  # 1 in OpenCV's fixed point


def require_linear(spec: InputSpec) -> None:
    """Raises BadInput where images are resized in another way than a device can."""
    if spec.interpolation != "linear":
        raise BadInput(
            f"augment_on device: expected interpolation 'linear', got {spec.interpolation!r}; take augment_on host"
        )


def draw_all(windows_u8: Tensor, variants: Sequence[Variant], spec: InputSpec, device: torch.device) -> Tensor:
    """Network inputs of a batch, on ``device``; a GPU is asked for them and not waited for.

    Args:
        windows_u8: [sum of height * width * 3] uint8, the windows of all variants, one after another.
        spec: gives the padding.

    Returns:
        [B, h, w, 3] uint8, h and w the largest of the batch; smaller images are padded at the right and the bottom.
    """
    height, width = (max(variant.input_hw[axis] for variant in variants) for axis in (0, 1))
    images_u8 = torch.full((len(variants), height, width, 3), spec.pad_value, dtype=torch.uint8, device=device)
    sizes = [variant.window_hw[0] * variant.window_hw[1] * 3 for variant in variants]
    windows = torch.split(on_device(windows_u8, device), sizes)
    # Tables and matrices of the whole batch go over in one transfer each.
    tables = [_taps(variant) for variant in variants]
    joined = on_device(torch.from_numpy(np.concatenate([np.concatenate(table) for table in tables])), device)
    taps = iter(torch.split(joined, [len(part) for table in tables for part in table]))
    changed = [variant.matrix for variant in variants if variant.matrix is not None]
    matrices = iter(on_device(torch.from_numpy(np.stack(changed)), device) if changed else ())
    for image, window, variant in zip(images_u8, windows, variants, strict=True):
        rows, columns = ((next(taps), next(taps), next(taps), next(taps)) for _ in "yx")
        content = window.reshape(*variant.window_hw, 3)
        if variant.window_hw == tuple(2 * side for side in variant.content_hw):
            content = _halved(content)
        elif variant.window_hw != variant.content_hw:
            content = _resized(content, rows, columns)
        if variant.matrix is not None:
            content = _coloured(content, next(matrices))
        if variant.flipped:
            content = content.flip(1)
        image[variant.y.start_px : variant.y.stop_px, variant.x.start_px : variant.x.stop_px] = content
    return images_u8


_Taps = tuple[Tensor, Tensor, Tensor, Tensor]


def _taps(variant: Variant) -> list[npt.NDArray[np.int32]]:
    """For rows, then columns: [n] each, the two old pixels of every new one, and their weights in fixed point."""
    (height, width), (new_height, new_width) = variant.window_hw, variant.content_hw
    first, near, far = _two_of(height, new_height)
    rows = [first.clip(0, height - 1), (first + 1).clip(0, height - 1), near, far]
    first, near, far = _two_of(width, new_width)
    edge = (first < 0) | (first >= width - 1)  # at the left and right edge the outer pixel counts alone
    first = first.clip(0, width - 1)
    columns = [first, (first + 1).clip(0, width - 1), np.where(edge, _ONE, near), np.where(edge, 0, far)]
    return [part.astype(np.int32) for part in (*rows, *columns)]


def _two_of(size: int, new_size: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Along one axis the first of the two old pixels, which may lie outside, and the weights of both."""
    position = ((np.arange(new_size) + 0.5) * (1 / (new_size / size)) - 0.5).astype(np.float32)
    first = np.floor(position)
    share = position - first
    return first.astype(np.int64), np.rint((np.float32(1) - share) * _ONE), np.rint(share * np.float32(_ONE))


def _resized(image_u8: Tensor, rows: _Taps, columns: _Taps) -> Tensor:
    """[h, w, 3] as [rows, columns, 3]: columns exactly, then rows with the bits that OpenCV keeps."""
    upper, lower, near, far = rows
    two_rows = image_u8.index_select(0, torch.cat((upper, lower)))
    left, right = (two_rows.index_select(1, at).int() for at in columns[:2])
    wide = left.mul_(columns[2][:, None]).add_(right.mul_(columns[3][:, None])).bitwise_right_shift_(4)
    above, below = wide.chunk(2)
    above = above.mul_(near[:, None, None]).bitwise_right_shift_(16)
    below = below.mul_(far[:, None, None]).bitwise_right_shift_(16)
    return above.add_(below).add_(2).bitwise_right_shift_(2).to(torch.uint8)


def _halved(image_u8: Tensor) -> Tensor:
    """Half the size exactly: OpenCV takes the mean of four pixels there."""
    height, width, _ = image_u8.shape
    four = image_u8.reshape(height // 2, 2, width // 2, 2, 3).sum(dim=(1, 3), dtype=torch.int32)
    return four.add_(2).bitwise_right_shift_(2).to(torch.uint8)


def _coloured(image_u8: Tensor, matrix: Tensor) -> Tensor:
    return (image_u8.float() @ matrix[:, :3].T).add_(matrix[:, 3]).round_().clamp_(0, 255).to(torch.uint8)
