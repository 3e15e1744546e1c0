"""BenchPlan: what is to be measured, and what the numbers will contain."""

from __future__ import annotations

from dataclasses import dataclass, field

from aweigh.runtime.backends.open import backend_of, read_spec
from aweigh.runtime.errors import BadInput
from aweigh.runtime.opening import OpenOptions

SYNTHETIC_HW = (720, 1280)


@dataclass(frozen=True)
class BenchPlan:
    """One measurement.

    Attributes:
        model: an exported file.
        batch: images in a batch.
        opening: how the file is opened.
        source: an image, folder or glob pattern; None for a generated JPEG of 1280x720 pixels.
        iterations: batches that each client sends, from the image file to its detections; None to go by ``seconds``.
        seconds: how long to measure; at least ten batches of each client.
        concurrency: clients, each a thread, that share one detector and send batch after batch.

    Example:
        >>> plan = BenchPlan(str(model_path), batch=4, opening=OpenOptions(threads=1), iterations=10)
        >>> plan.check()
        >>> BenchPlan(str(model_path), batch=64).check()
        Traceback (most recent call last):
        aweigh.runtime.errors.BadInput: ...model.onnx: --batch 64, this file takes 1 to 4; export it with --batch 1-64
    """

    model: str
    batch: int
    opening: OpenOptions = field(default_factory=OpenOptions)
    source: str | None = None
    iterations: int | None = None
    seconds: float = 5.0
    concurrency: int = 1

    def check(self) -> None:
        """Check the plan before anything is measured.

        Raises:
            BadInput: the file cannot be opened or does not take the batch, or a number is out of range.
        """
        backend_of(self.model, self.opening.backend)
        smallest, largest = read_spec(self.model).batch
        if not smallest <= self.batch <= largest:
            takes = f"{smallest}" if smallest == largest else f"{smallest} to {largest}"
            raise BadInput(
                f"{self.model}: --batch {self.batch}, this file takes {takes}; export it with --batch 1-{self.batch}"
            )
        if self.concurrency < 1:
            raise BadInput(f"--concurrency {self.concurrency}: expected at least 1")
        if self.iterations is not None and self.iterations < 1:
            raise BadInput(f"--iters {self.iterations}: expected at least 1")
        if not self.seconds > 0:
            raise BadInput(f"--seconds {self.seconds}: expected more than 0")


def explain(plan: BenchPlan) -> dict[str, str]:
    """What the numbers of a :class:`~aweigh.runtime.bench.result.BenchResult` contain, in words, by name."""
    images = plan.source or f"one generated JPEG of {SYNTHETIC_HW[1]}x{SYNTHETIC_HW[0]} pixels, from memory"
    length = f"{plan.iterations} iterations" if plan.iterations else f"{plan.seconds:g} s, at least 10 iterations"
    return {
        "pictures": images,
        "length": f"{length} per model and batch, after a warm-up of at least 3 iterations and 0.5 s",
        "cold_start": "once, in a fresh process: libraries imported (from the start of the process), file opened, "
        "first batch from file to boxes; warmup_ms: the batches before the measurement, without the first",
        "decode": "file to RGB, all images of the batch in one thread (files come from the page cache)",
        "preprocess": "resize and padding into the batch, all images in one thread of Python",
        "input": "decode and preprocess together: bytes of the file to the batch",
        "network": "the whole graph, from uint8 images to the final boxes; post-processing included",
        "post_share": "share of the graph's time spent behind the last convolution of each branch (box decoding, "
        "ranking score, NMS), from ONNX Runtime's profiler in a separate run (with the back end onnxruntime only); "
        "post_ms: that share of network's mean",
        "jit_ms": "with TensorRT for RTX, within opening: the first run of each profile, in which its kernels are "
        "compiled, or read from the cache next to the plan; absent elsewhere",
        "unmap": "boxes back to the original images, category ids",
        "total": "the stages above, one after the other; milliseconds per batch",
        "overhead": "total without network",
        "fps": "images by the wall clock, from the first client's start to the last one's end; fps_network: if there "
        "were nothing but the graph, one batch after the other",
        "network_device": "the graph by the GPU's own clock (events around copies and kernels), in a separate run; "
        "network is by the host's clock; absent where the library does not show its stream",
        "device_memory": "of a TensorRT engine, in bytes: weights, scratch memory of the contexts, buffers, "
        "page-locked host memory; device_free and device_total count all processes",
        "device_used_mb": "growth of the GPU's memory in use from before the file was opened until after the run, "
        "10^6 bytes, by nvidia-smi: weights, activations, CUDA itself, and what other processes took meanwhile",
        "memory": "resident memory of a process that runs only this model at this batch, 10^6 bytes: start, libraries "
        "imported; open, with weights and the library's own data; end, after the run; peak resident memory, with "
        "activations and images",
        "conditions": "during the measurement: share of the processors taken by the host of a virtual machine (stolen) "
        "and by other processes, waiting for a container's quota, clocks, thermal events; quiet: no load and no "
        "throttling to speak of",
    }
