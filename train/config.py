"""Everything that decides a training run, as one frozen value: from flags, a YAML recipe, or a run being resumed."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from aweigh.runtime.device import Device
from aweigh.runtime.errors import BadInput
from aweigh.runtime.files.reading import read_once
from aweigh.runtime.size import Size
from aweigh.runtime.values import build
from aweigh.train.yaml_text import parse_yaml

# Settings of how a run is computed, not of what it computes: a resumed run may take other values.
AS_RECORDED = "as recorded"  # the data of a resumed run, where no other place is given
PLACE_FLAGS = ("devices", "accumulate", "wait_seconds")
DEVICES: tuple[Literal["auto", "cpu", "cuda"], ...] = ("auto", "cpu", "cuda")


def about(text: str, low: float | None = None, high: float | None = None) -> Mapping[str, object]:
    """Metadata of a field: its help text and, for a number, the range of its values (both ends included)."""
    return {"help": text, "range": None if low is None else (low, high)}


@dataclass(frozen=True)
class TrainConfig:
    """A recipe. The names are those of the flags; a YAML file given with ``--config`` may set any of them.

    What each field means is in its help text: ``values.help_texts(TrainConfig)``, or ``aweigh train --help``.
    :func:`make_config` builds one from texts and numbers as users write them.

    Raises:
        BadInput: a value out of its range.

    Example:
        >>> str(TrainConfig("shapes", epochs=3, name="first").run_dir)
        'runs/train/first'
    """

    data: str = field(metadata=about("Folder of the data set (COCO, VOC, ODGT), or its data.yaml."))
    method: str = field(default="dw", metadata=about("Method of label assignment; aweigh methods lists them."))
    model: str = field(
        default="r18",
        metadata=about(
            "Network: nano, r10, r18, r34, lite0, lite2, swin-t, or r50, r101, r152, x101-64x4d, x152-32x8d, these "
            "five also as NAME-dcn."
        ),
    )
    imgsz: Size | None = field(
        default=None,
        metadata=about(
            "Size of the network input in pixels: N, HxW (height first), or auto: the network's own size at the median "
            "aspect ratio of the data set."
        ),
    )
    resize: Literal["letterbox", "keep-ratio", "stretch"] = field(
        default="letterbox",
        metadata=about("How images are brought to that size; keep-ratio takes it as bounds of the two sides."),
    )
    epochs: int = field(default=40, metadata=about("Passes over the training split.", 1, 100_000))
    iterations: int = field(
        default=0, metadata=about("Length of the run in iterations instead of epochs; 0 uses epochs.", 0, 100_000_000)
    )
    minutes: float | None = field(
        default=None,
        metadata=about(
            "Length of the run in minutes instead of epochs; turned into iterations once, at the measured speed.",
            0.01,
            100_000,
        ),
    )
    batch: int = field(
        default=8,
        metadata=about(
            "Images per step, over all processes and parts; auto (0) takes 16, or fewer where memory is short.", 0, 4096
        ),
    )
    lr_batch: int = field(
        default=0,
        metadata=about(
            "Batch that lr0 is meant for; another batch scales lr0 in proportion. 0 does not scale.", 0, 1_000_000
        ),
    )
    optimizer: Literal["adamw", "sgd"] = field(default="adamw", metadata=about("Optimizer."))
    lr0: float = field(default=0.001, metadata=about("Peak learning rate.", 1e-9, 100))
    lrf: float = field(default=0.01, metadata=about("Last learning rate of the cosine, as a share of the peak.", 0, 1))
    weight_decay: float = field(
        default=0.05, metadata=about("Weight decay of all parameters but the undecayed ones.", 0, 10)
    )
    momentum: float = field(default=0.9, metadata=about("Momentum of SGD.", 0, 1))
    schedule: Literal["cosine", "step"] = field(default="cosine", metadata=about("Learning rate after the warm-up."))
    steps: tuple[float, ...] = field(
        default=(8 / 12, 11 / 12),
        metadata=about("Shares of the run at which the step schedule divides the learning rate by ten."),
    )
    warmup: float = field(default=0.05, metadata=about("Share of the run over which the learning rate rises.", 0, 1))
    warmup_iterations: int = field(
        default=0,
        metadata=about("Length of the warm-up in iterations instead of a share; 0 uses the share.", 0, 1_000_000),
    )
    warmup_from: float = field(default=0.0, metadata=about("Share of the peak at which the warm-up starts.", 0, 1))
    warmup_kind: Literal["linear", "constant"] = field(
        default="linear",
        metadata=about("linear rises to the peak; constant stays at warmup_from until the warm-up ends."),
    )
    bias_lr: float = field(
        default=1.0, metadata=about("Factor on the learning rate of biases (not of normalisation layers).", 0, 100)
    )
    undecayed: tuple[Literal["norm", "bias", "scale"], ...] = field(
        default=("norm", "bias", "scale"),
        metadata=about("Kinds of parameters without weight decay: norm, bias, scale (learned scalars and vectors)."),
    )
    clip: float = field(default=10.0, metadata=about("Largest norm of the gradient; 0 does not limit it.", 0, 1e9))
    ema: float = field(
        default=0.998,
        metadata=about(
            "Decay of the averaged weights, which are validated and exported; 0 turns averaging off.", 0, 0.999999
        ),
    )
    device: Device = field(
        default=Device("auto"),
        metadata=about("Where the network is trained: auto (CUDA where there is one), cpu, cuda or cuda:N."),
    )
    devices: int = field(
        default=1,
        metadata=about(
            "Processes on this machine, each with its own CUDA device, or all on the CPU; they share every batch.",
            1,
            1024,
        ),
    )
    accumulate: int = field(
        default=1,
        metadata=about(
            "Parts in which a process computes its share of a batch, one after the other, to save memory.", 1, 4096
        ),
    )
    wait_seconds: float = field(
        default=600.0,
        metadata=about("How long a process waits for the others before it gives up the run.", 1, 1_000_000),
    )
    precision: Literal["auto", "fp32", "bf16"] = field(
        default="auto",
        metadata=about("Arithmetic in training; auto is bf16 autocast where the device computes in it, else fp32."),
    )
    channels_last: bool = field(
        default=True, metadata=about("Memory layout with the channels last; faster on the CPU and on recent GPUs.")
    )
    threads: int = field(
        default=0,
        metadata=about(
            "Threads for training on the CPU; 0 tries which number is fastest on the machine as it is now.", 0, 1024
        ),
    )
    workers: int = field(
        default=-1,
        metadata=about(
            "Processes that load images; -1 takes half of the cores, at most 8. Results do not depend on it.", -1, 256
        ),
    )
    augment_on: Literal["host", "device"] = field(
        default="host",
        metadata=about("Where training images are resized, coloured and flipped: host (loading processes) or device."),
    )
    cache: Literal["none", "ram", "disk"] = field(default="none", metadata=about("Where decoded images are kept."))
    faulty: Literal["drop", "refuse"] = field(
        default="drop", metadata=about("Drop faulty annotations, or refuse the data set.")
    )
    outside_images: bool = field(
        default=False, metadata=about("Read images outside of the data set's folder, where its annotations name such.")
    )
    repeat_threshold: float = field(
        default=0.0,
        metadata=about(
            "Classes in a smaller share of the images are shown more often (the t of LVIS); 0 repeats nothing.", 0, 1
        ),
    )
    val_share: float = field(default=0.0, metadata=about("Share to validate on, of data without val.", 0, 1))
    test_share: float = field(default=0.0, metadata=about("Share to keep for testing, of data without test.", 0, 1))
    split_seed: int = field(default=0, metadata=about("Seed of these two choices.", 0, 2**31 - 1))
    seed: int = field(default=0, metadata=about("Seed of the weights, the order and the augmentation.", 0, 2**31 - 1))
    val_every: int = field(
        default=0,
        metadata=about("Epochs between validations; 0 spreads about twelve validations over the run.", 0, 100_000),
    )
    patience: int = field(
        default=0,
        metadata=about("Validations without a better AP after which training stops; 0 never stops it.", 0, 100_000),
    )
    frozen_stages: int = field(
        default=-1,
        metadata=about(
            "Last part of the backbone that does not learn: 0 the stem, 1 the first stage too, ...; -1 none.", -1, 4
        ),
    )
    backbone_norm: Literal["learned", "fixed", "frozen"] = field(
        default="learned",
        metadata=about(
            "BatchNorm of the backbone: learned; fixed keeps its statistics; frozen keeps its weights and biases too."
        ),
    )
    sync_bn: bool = field(default=False, metadata=about("Statistics of BatchNorm over all processes; CUDA only."))
    weights: str | None = field(
        default=None,
        metadata=about(
            "Weights to start from: ImageNet weights of the backbone (imagenet: the published ones of this network; a "
            "file, https://...#sha256=DIGITS, or hf:owner/name[@revision]), or an aweigh checkpoint, of which every "
            "tensor that fits is taken."
        ),
    )
    logger: Literal["csv", "tensorboard", "wandb", "mlflow"] = field(
        default="csv", metadata=about("Extra logger; csv writes results.csv only, which every run has.")
    )
    project: str = field(default="runs/train", metadata=about("Folder that holds the runs."))
    name: str = field(default="train", metadata=about("Name of the run: its folder in the project."))
    exist_ok: bool = field(default=False, metadata=about("Replace a run of the same name."))
    network: dict[str, Any] = field(
        default_factory=dict, metadata=about("Sizes that differ from the named network's (fields of Architecture).")
    )
    options: dict[str, Any] = field(default_factory=dict, metadata=about("Options of the method (its config's)."))
    augment: dict[str, Any] = field(default_factory=dict, metadata=about("Options of the augmentation (of Augment)."))

    def __post_init__(self) -> None:
        for one in dataclasses.fields(self):
            value, limits = getattr(self, one.name), one.metadata.get("range")
            if limits is None or value is None:
                continue
            low, high = limits
            if not low <= value <= high:
                raise BadInput(f"--{one.name.replace('_', '-')} {value}: expected {low:g} to {high:g}")
        if 0 < self.batch < self.devices * self.accumulate:
            raise BadInput(
                f"--batch {self.batch}: cannot be shared by {self.devices} processes in {self.accumulate} parts each; "
                "it counts the images of a step over all of them"
            )

    @property
    def run_dir(self) -> Path:
        return Path(self.project) / self.name

    def to_dict(self) -> dict[str, Any]:
        """The recipe as in args.yaml and checkpoints; :func:`make_config` reads it again."""
        values = {one.name: getattr(self, one.name) for one in dataclasses.fields(self)}
        values |= {name: list(value) for name, value in values.items() if name in ("steps", "undecayed")}
        values |= {name: dict(values[name]) for name in ("network", "options", "augment")}
        return {**values, "imgsz": "auto" if self.imgsz is None else str(self.imgsz), "device": str(self.device)}


def make_config(values: Mapping[str, Any], where: str = "recipe") -> TrainConfig:
    """A recipe from texts, numbers and parsed values, as flags, YAML and Python give them.

    Args:
        values: by name of the field; ``imgsz`` and ``batch`` may be ``auto``.
        where: begins the messages of errors.

    Raises:
        BadInput: no ``data``, unknown keys, ill-typed values or values out of range; the message names what is known.

    Example:
        >>> make_config({"data": "shapes", "imgsz": "64x96", "epochs": "3"}).imgsz
        Size(height=64, width=96)
    """
    if not values.get("data"):
        raise BadInput("--data is missing: name a folder (COCO, VOC) or a data.yaml")
    parsed = dict(values)
    if parsed.get("batch") == "auto":
        parsed["batch"] = 0
    if parsed.get("imgsz") is not None:
        parsed["imgsz"] = None if parsed["imgsz"] == "auto" else Size.parse(str(parsed["imgsz"]))
    if "device" in parsed:
        parsed["device"] = Device.parse(parsed["device"], DEVICES, user="training")
    return build(TrainConfig, parsed, where, coerce=True, noun="keys")


def shipped() -> dict[str, Path]:
    """The recipes that come with the package, by name."""
    return {path.stem: path for path in sorted((Path(__file__).parent / "recipes").glob("*.yaml"))}


def read_recipe(source: str | Path) -> dict[str, Any]:
    """The keys of a YAML recipe: a file, or the name of a shipped one.

    Raises:
        BadInput: no such file or name, or its content is no mapping.

    Example:
        >>> read_recipe("dw_r50_1x")["epochs"]
        12
    """
    path = shipped().get(str(source), Path(source))
    if not path.is_file():
        raise BadInput(f"--config {source}: no such file, and no shipped recipe; those are {', '.join(shipped())}")
    content = parse_yaml(read_once(path, "recipe"), f"--config {path}")
    if not isinstance(content, dict):
        raise BadInput(f"--config {path}: expected keys and values, got {type(content).__name__}")
    return {str(key).replace("-", "_"): value for key, value in content.items()}
