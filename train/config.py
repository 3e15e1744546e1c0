"""Everything that decides a training run, as one frozen value: from flags, a YAML recipe, or a run being resumed."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from aweigh.runtime.cli.main import parse_size
from aweigh.runtime.errors import BadInput
from aweigh.runtime.values import build

# Fields that change how a run is computed, and not what: a resumed one may take others.
PLACE_FLAGS = ("devices", "accumulate", "wait_seconds")


@dataclass(frozen=True)
class TrainConfig:
    """A recipe. Names are those of the flags; a YAML file given with ``--config`` may set any of them.

    Attributes:
        data: folder (COCO, VOC) or data.yaml.
        method: fcos, dw, o2f, autoassign, paa or ala.
        model: nano, r10, r18, r34, swin-t, or r50, r101, r152, x101-64x4d, x152-32x8d, these five also as NAME-dcn.
        imgsz: N, HxW, or auto: the network's own size at the data set's median aspect ratio.
        resize: how pictures are brought to that size; keep-ratio takes it as bounds of the two sides.
        epochs: passes over the training split.
        iterations: of the run, in place of epochs; 0 goes by the epochs.
        minutes: turned into iterations once, at the measured speed, in place of epochs.
        batch: pictures per step, of all processes and parts together; auto (0): 16, or fewer where memory is short.
        lr_batch: the batch that lr0 is meant for; another one scales it in proportion. 0 takes lr0 as it is.
        optimizer: with weights of norms and biases not decayed.
        lr0: peak learning rate.
        lrf: last learning rate of the cosine, as a share of the peak.
        weight_decay: of convolution weights.
        momentum: of SGD.
        schedule: of the learning rate after the warm-up.
        steps: shares of the run at which the step schedule divides by ten.
        warmup: share of the run over which the learning rate rises.
        warmup_iterations: the same in iterations, in place of the share; 0 goes by the share.
        warmup_from: share of the peak at which the warm-up starts.
        warmup_kind: linear rises to the peak, constant stays at warmup_from until the warm-up ends.
        bias_lr: factor on the learning rate of biases (not of normalisations).
        undecayed: parameters without weight decay: norm, bias, scale (learned scalars and vectors).
        clip: largest norm of the gradient; 0 does not limit it.
        ema: decay of the averaged weights, which are validated and exported; 0 turns averaging off.
        device: auto, cpu, cuda or cuda:N.
        devices: processes on this machine, with a CUDA device each, or all on the CPU; they share every batch.
        accumulate: parts a process computes its share of a batch in, one after the other, to save memory.
        wait_seconds: that a process waits for the others before it gives the run up.
        precision: of the network's arithmetic in training; auto is bf16 autocast. Validation is always fp32.
        channels_last: memory layout; faster on CPU and on recent GPUs.
        threads: of the training on a CPU; 0 tries which number helps on the machine as it is now.
        workers: processes that load pictures; -1 takes half of the cores, at most 8. Results do not depend on it.
        cache: decoded pictures kept in ram or on disk.
        faulty: drop faulty annotations, or refuse the data set.
        repeat_threshold: classes in a smaller share of the pictures are shown more often (LVIS' t); 0 never.
        seed: of weights, order and augmentation.
        val_every: epochs between validations; 0 spreads about twelve over the run.
        patience: validations without a better AP after which training stops; 0 never.
        frozen_stages: parts of the backbone that do not learn: 0 its stem, 1 the first stage too, ...; -1 none.
        backbone_norm: learned; fixed keeps the statistics of its BatchNorm; frozen the weights and biases too.
        sync_bn: statistics of BatchNorm over all processes; CUDA only.
        weights: ImageNet weights of the backbone: a file, https://...#sha256=DIGITS, or hf:owner/name[@revision]; or a
            checkpoint of one's own, of which all that fits is taken.
        logger: where figures go beside results.csv, which csv stands for alone.
        project: folder of the runs.
        name: of the run, a folder in it.
        exist_ok: replace a run of the same name.
        network: sizes that differ from the named architecture (Architecture's fields).
        options: of the method (its config's fields).
        augment: of the augmentation (Augment's fields).
    """

    data: str
    method: str = "dw"
    model: str = "r18"
    imgsz: str = "auto"
    resize: Literal["letterbox", "keep-ratio", "stretch"] = "letterbox"
    epochs: int = 40
    iterations: int = 0
    minutes: float | None = None
    batch: int = 8
    lr_batch: int = 0
    optimizer: Literal["adamw", "sgd"] = "adamw"
    lr0: float = 0.001
    lrf: float = 0.01
    weight_decay: float = 0.05
    momentum: float = 0.9
    schedule: Literal["cosine", "step"] = "cosine"
    steps: tuple[float, ...] = (8 / 12, 11 / 12)
    warmup: float = 0.05
    warmup_iterations: int = 0
    warmup_from: float = 0.0
    warmup_kind: Literal["linear", "constant"] = "linear"
    bias_lr: float = 1.0
    undecayed: tuple[Literal["norm", "bias", "scale"], ...] = ("norm", "bias", "scale")
    clip: float = 10.0
    ema: float = 0.998
    device: str = "auto"
    devices: int = 1
    accumulate: int = 1
    wait_seconds: float = 600.0
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    channels_last: bool = True
    threads: int = 0
    workers: int = -1
    cache: Literal["none", "ram", "disk"] = "none"
    faulty: Literal["drop", "refuse"] = "drop"
    repeat_threshold: float = 0.0
    seed: int = 0
    val_every: int = 0
    patience: int = 0
    frozen_stages: int = -1
    backbone_norm: Literal["learned", "fixed", "frozen"] = "learned"
    sync_bn: bool = False
    weights: str | None = None
    logger: Literal["csv", "tensorboard", "wandb", "mlflow"] = "csv"
    project: str = "runs/train"
    name: str = "train"
    exist_ok: bool = False
    network: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    augment: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.imgsz != "auto":
            parse_size(self.imgsz)
        limits: list[tuple[str, float, float]] = [
            ("epochs", 1, 100_000),
            ("iterations", 0, 100_000_000),
            ("batch", 0, 4096),
            ("lr_batch", 0, 1_000_000),
            ("lr0", 1e-9, 100),
            ("lrf", 0, 1),
            ("weight_decay", 0, 10),
            ("momentum", 0, 1),
            ("warmup", 0, 1),
            ("warmup_iterations", 0, 1_000_000),
            ("warmup_from", 0, 1),
            ("bias_lr", 0, 100),
            ("clip", 0, 1e9),
            ("ema", 0, 0.999999),
            ("devices", 1, 1024),
            ("accumulate", 1, 4096),
            ("wait_seconds", 1, 1_000_000),
            ("repeat_threshold", 0, 1),
            ("threads", 0, 1024),
            ("workers", -1, 256),
            ("seed", 0, 2**31 - 1),
            ("val_every", 0, 100_000),
            ("patience", 0, 100_000),
            ("frozen_stages", -1, 4),
        ]
        if self.minutes is not None:
            limits.append(("minutes", 0.01, 100_000))
        for name, low, high in limits:
            value = getattr(self, name)
            if not low <= value <= high:
                raise BadInput(f"--{name.replace('_', '-')} {value}: expected {low:g} to {high:g}")

        if 0 < self.batch < self.devices * self.accumulate:
            raise BadInput(
                f"--batch {self.batch}: cannot be shared by {self.devices} processes in {self.accumulate} parts each; "
                "it counts the pictures of a step over all of them"
            )

    @property
    def run_dir(self) -> Path:
        return Path(self.project) / self.name

    def to_dict(self) -> dict[str, Any]:
        return {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(self).items()}


def make_config(values: dict[str, Any], where: str = "recipe") -> TrainConfig:
    """Raises BadInput for unknown keys and ill-typed values, naming what is known."""
    if not values.get("data"):
        raise BadInput("--data is missing: name a folder (COCO, VOC) or a data.yaml")
    if values.get("batch") == "auto":
        values = {**values, "batch": 0}
    return build(TrainConfig, values, where, coerce=True, noun="keys")


def shipped() -> dict[str, Path]:
    """The recipes that come with the package, by name."""
    return {path.stem: path for path in sorted((Path(__file__).parent / "recipes").glob("*.yaml"))}


def read_recipe(source: str | Path) -> dict[str, Any]:
    """The keys of a YAML recipe: a file, or the name of a shipped one.

    Raises BadInput where it is not there or no mapping.
    """
    path = shipped().get(str(source), Path(source))
    if not path.is_file():
        raise BadInput(f"--config {source}: no such file, and no shipped recipe; those are {', '.join(shipped())}")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise BadInput(f"--config {path}: cannot be read ({error})") from error
    if not isinstance(content, dict):
        raise BadInput(f"--config {path}: expected keys and values, got {type(content).__name__}")
    return {str(key).replace("-", "_"): value for key, value in content.items()}


def explained() -> dict[str, str]:
    """The meaning of every field, from the text of :class:`TrainConfig`."""
    lines = re.findall(r"^        (\w+): (.+)$", TrainConfig.__doc__ or "", flags=re.MULTILINE)
    return dict(lines)
