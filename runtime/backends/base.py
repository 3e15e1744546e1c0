"""Backend: one opened model file that turns batches of images into output arrays."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Self

import numpy as np

from aweigh.runtime.backends.outputs import check_outputs
from aweigh.runtime.errors import AweighError, BadInput, CannotRun, CheckFailed
from aweigh.runtime.network import ImagesU8, Outputs
from aweigh.runtime.spec import ModelSpec

INPUT_NAME = "images"


class Closing(ABC):
    """Holds memory or a device until it is closed; ``with`` closes it at the end of the block."""

    @abstractmethod
    def close(self) -> None:
        """Free memory and device; a second call does nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


@contextmanager
def own_errors(library: str, count: int) -> Iterator[None]:
    """Around a run of a library: what it raises becomes an error of aweigh's.

    Args:
        library: what computes, as messages call it.
        count: of images.

    Raises:
        CannotRun: no memory for so many.
        CheckFailed: anything else.
    """
    try:
        yield
    except AweighError:
        raise
    except MemoryError as error:
        raise CannotRun(f"not enough memory for a batch of {count}; take a smaller one") from error
    except Exception as error:  # the libraries' classes are not public
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise CheckFailed(
            f"{library} could not compute this network ({reason}); aweigh verify the file, or export it again"
        ) from error


class Backend(Closing):
    """Checks what goes in and what comes out; a subclass does the work in ``_infer``.

    Safe for calls from several threads at once, unless a subclass says otherwise.

    Attributes:
        sha256: of the bytes that were opened, 64 hexadecimal digits; what the file holds by now may differ.
        spec: the contract found in the file.
        golden: the text of its golden images (see ``golden.decode_golden``); None where it has none.
        providers: what executes it, in the order of the library, and remarks.
        precision: the coarsest that a convolution is computed in; that of the file, unless another was asked for, or
            the machine has no arithmetic of it and computes in a finer one.
        layers: convolutions by the precision that they are computed in; empty where the library does not report it.
        threads: that the network uses on a CPU; calls that run at once on a TensorRT engine.
        jit_ms: milliseconds of the first runs, in which kernels were compiled; None for a library that compiles none.
    """

    sha256: str
    spec: ModelSpec
    golden: str | None
    providers: tuple[str, ...]
    precision: str
    layers: Mapping[str, int]
    threads: int
    jit_ms: float | None = None

    def infer(self, images_u8: ImagesU8) -> Outputs:
        """Run the graph on a prepared batch.

        Args:
            images_u8: [B, H, W, 3] RGB as ``preprocess.prepare`` gives it.

        Returns:
            ``num_dets`` [B], ``boxes`` [B, K, 4] xyxy in network pixels, ``scores`` [B, K], ``labels`` [B, K] and, for
            the matrix form, ``converged`` [B]; or, for post-processing ``raw``, ``boxes`` [B, P, 4], ``scores``
            [B, P, C].

        Raises:
            BadInput: another type, shape or number of images than the file takes.
            CheckFailed: the matrix form of NMS did not settle, the library failed within the network, or the network
                gave other shapes than these.
            CannotRun: not enough memory.
        """
        self.check_batch(images_u8)
        return self._checked(lambda: self._infer(np.ascontiguousarray(images_u8)), len(images_u8))

    def _checked(self, compute: Callable[[], Outputs], count: int) -> Outputs:
        """The outputs of ``compute`` for so many images, with the errors of ``infer``."""
        with own_errors(self.providers[0], count):
            outputs = compute()
        converged = outputs.get("converged")
        if converged is not None and not converged.all():
            raise CheckFailed(
                f"NMS in matrix form did not settle for images {np.flatnonzero(~converged).tolist()} of the batch: "
                "a longer chain of overlapping boxes than the graph unrolls; export the model with --nms onnx"
            )
        check_outputs(outputs, count, self.spec)
        return outputs

    def check_batch(self, images_u8: ImagesU8) -> None:
        """Raises BadInput where ``infer`` would refuse this batch."""
        if images_u8.dtype != np.uint8 or images_u8.ndim != 4 or images_u8.shape[3] != 3:
            raise BadInput(f"batch: expected uint8 [B, H, W, 3], got {images_u8.dtype} {list(images_u8.shape)}")
        self.check_shape(images_u8.shape)

    def check_shape(self, shape: tuple[int, ...]) -> None:
        """Raises BadInput where ``infer`` would refuse a batch [B, H, W, 3] of this shape."""
        spec = self.spec
        count, height, width, _ = shape
        smallest, largest = spec.batch
        if not smallest <= count <= largest:
            takes = f"{smallest}" if smallest == largest else f"{smallest} to {largest}"
            raise BadInput(
                f"batch of {count}: this file takes {takes}; "
                f"export it with --batch {count} or a range such as 1-{count}"
            )
        multiple = spec.input.pad_multiple
        if not spec.input.dynamic_size and (height, width) != spec.input.size_hw:
            raise BadInput(
                f"images of {width}x{height} pixels: this file takes {spec.input.size_hw[1]}x{spec.input.size_hw[0]}"
            )
        if spec.input.dynamic_size and (height < 1 or width < 1 or height % multiple or width % multiple):
            raise BadInput(f"images of {width}x{height} pixels: this file takes positive multiples of {multiple}")

    def memory(self) -> dict[str, int | None] | None:
        """Memory of the device in bytes, by use; None where it uses only the host's memory."""
        return None

    def device_ms(self, images_u8: ImagesU8) -> float | None:
        """Milliseconds of one run by the device's own clock (events on its stream), copies in and out included.

        None where no device keeps a clock of its own, or the library does not show its stream.
        """
        return None

    @abstractmethod
    def _infer(self, images_u8: ImagesU8) -> Outputs:
        """Outputs by name for a checked batch."""
