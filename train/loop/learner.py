"""A network while it learns: with its optimizer and the average of its weights."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor

from aweigh.runtime.errors import BadInput
from aweigh.runtime.spec import ModelSpec
from aweigh.runtime.values import shown
from aweigh.train.checkpoint import Checkpoint
from aweigh.train.config import TrainConfig
from aweigh.train.data.loading.loader import Batch
from aweigh.train.loop.gradient import backward
from aweigh.train.loop.optim import KEPT, WeightAverage, load_optimizer, make_optimizer
from aweigh.train.loop.step import Launched, Step, fetch
from aweigh.train.models.deployable import Deployable
from aweigh.train.models.detector import DenseDetector, build_detector
from aweigh.train.models.freezing import freeze, synchronised
from aweigh.train.process.processes import gather, mean_statistics
from aweigh.train.tracking import telemetry

State = dict[str, Any]  # tensors, numbers and strings, as torch.save writes them


class Learner:
    """Each of several processes has one; they take every step together.

    The weights of the network are drawn from the seed of the recipe.

    Args:
        config: the recipe.
        spec: of the model being trained.
        fabric: device, precision and processes.
    """

    def __init__(self, config: TrainConfig, spec: ModelSpec, fabric: Fabric) -> None:
        self.config, self.spec, self.fabric = config, spec, fabric
        torch.manual_seed(config.seed)
        self.detector = self._build()
        if config.channels_last:
            self.detector.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        freeze(self.detector, config.frozen_stages, config.backbone_norm)
        if config.sync_bn:
            self.detector = synchronised(self.detector, fabric.world_size, fabric.device)
        c = config
        # Each step sets its own learning rate.
        optimizer = make_optimizer(
            self.detector, c.optimizer, c.lr0, c.weight_decay, c.momentum, c.undecayed, c.bias_lr, fabric.device
        )
        self.model, self.optimizer = fabric.setup(self.detector, optimizer)
        self.average = WeightAverage(self.detector, config.ema)
        self._broken: Tensor | None = None  # on the device: 1 once a step was not finite

    def _build(self) -> DenseDetector:
        c, spec = self.config, self.spec
        return build_detector(c.model, c.method, len(spec.categories), spec.input, c.network, c.options)

    @property
    def lr(self) -> float:
        """The learning rate of the last step."""
        return float(self.optimizer.param_groups[0]["lr"])

    @property
    def runs_ahead(self) -> bool:
        """Whether a step that is not finite is held back by the device itself, so that its numbers may wait.

        Fused optimizers, those of a GPU, can; with any other the numbers are looked at before the weights change.
        """
        return all(group["fused"] for group in self.optimizer.param_groups)

    def launch(self, batch: Batch, iteration: int, progress: float, lr: float) -> Launched:
        """Ask for one optimizer step. On a GPU the host waits for nothing that the loss does not wait for.

        Args:
            batch: this process's share of the images.
            iteration: counted from 0; the average of the weights follows faster in the first ones.
            progress: of the run, 0 to 1.
            lr: learning rate of the weights.

        Raises:
            NotFinite: before the weights change; where the learner ``runs_ahead``, the numbers show it when they are
                fetched, and no step from that one on has changed the weights.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = lr * group["lr_share"]
        outcome = backward(self.fabric, self.model, self.detector, batch, progress, self.config.accumulate)
        assigned: telemetry.Sums = {}
        if iteration % telemetry.EVERY == 0:
            method = self.detector.method
            observed = telemetry.observe(method, outcome.predictions, outcome.points, outcome.targets, progress)
            assigned = telemetry.joined(gather(observed))
        # Normalisers count over all processes: the mean of their terms is the term of the whole batch.
        terms = self.fabric.all_reduce(torch.stack(list(outcome.losses.values())), reduce_op="mean")
        norm = torch.nn.utils.clip_grad_norm_(self.detector.parameters(), self.config.clip or math.inf)
        launched = Launched(tuple(outcome.losses), torch.cat((terms.double(), norm.double()[None])), assigned)
        if self.runs_ahead:
            self._hold_back_unless_finite(launched.measured)
        else:
            self._settle(launched)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.average.update(self.detector, iteration)
        return launched

    def _hold_back_unless_finite(self, measured: Tensor) -> None:
        """Let this step and all after it change no weight, once a value is not finite; the host need not know yet."""
        broken = torch.isfinite(measured).all().logical_not().float()
        self._broken = broken if self._broken is None else torch.maximum(self._broken, broken)
        # The kernels of fused optimizers read it, for the sake of scaled losses; Fabric's wrapper does not pass it on.
        self.optimizer.optimizer.found_inf = self._broken

    @staticmethod
    def _settle(launched: Launched) -> Step:
        """The outcome of a step, now. Raises NotFinite."""
        [values] = fetch([launched])
        return launched.outcome(values)

    def step(self, batch: Batch, iteration: int, progress: float, lr: float) -> Step:
        """``launch``, and its outcome, which is waited for. Raises NotFinite as it says."""
        return self._settle(self.launch(batch, iteration, progress, lr))

    def rehearse(self, batch: Batch, iteration: int = 0) -> Step:
        """A step that costs what one of the run costs, at learning rate 0 and progress 0; use it within ``trial``."""
        return self.step(batch, iteration, progress=0.0, lr=0.0)

    @contextmanager
    def trial(self) -> Iterator[None]:
        """Restore the state of the learner, and of torch's random numbers, at the end of the block."""
        before = copy.deepcopy(self.state())
        try:
            yield
        finally:
            self.optimizer.zero_grad(set_to_none=True)
            self.load_state(before)

    def state(self) -> State:
        """What a resumed run needs of the learner."""
        return {
            "model": self.detector.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": self.average.state,
            "rng": torch.get_rng_state(),
        }

    def take_state(self, recorded: State, where: str) -> None:
        """``load_state`` of a file, which may hold anything; ``where`` begins the message.

        Raises:
            BadInput: it is not the state of such a learner.
        """
        try:
            self._require_state(recorded)
            self.load_state(recorded)
        except (KeyError, TypeError, ValueError, AttributeError, IndexError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:300]
            raise BadInput(
                f"{where}: its training state is not that of {self.config.model} with {self.config.method} "
                f"({type(error).__name__}: {reason}); begin a new run"
            ) from error

    def _require_state(self, recorded: State) -> None:
        """Raises ValueError (or what comes of other types) for tensors of other names or shapes than the learner's."""
        for part, own in (("model", self.detector.state_dict()), ("average", self.average.state)):
            other = {name: tensor.shape for name, tensor in recorded[part].items()}
            differing = sorted(set(other.items()) ^ {(name, tensor.shape) for name, tensor in own.items()})
            if differing:
                raise ValueError(f"{part}: {differing[0][0]} is missing, unknown or of another shape")
        groups = self.optimizer.state_dict()["param_groups"]
        for own, other in zip(groups, recorded["optimizer"]["param_groups"], strict=True):
            for name, value in own.items():
                if isinstance(value, (float, tuple)) and type(other[name]) is not type(value):
                    raise ValueError(f"optimizer: {name} is {shown(other[name])}")
            if own["params"] != other["params"]:
                raise ValueError("optimizer: other parameters")
        sides = [parameter.shape for group in self.optimizer.param_groups for parameter in group["params"]]
        for position, held in recorded["optimizer"]["state"].items():
            tensors = [value for value in held.values() if value is not None]
            if held and set(held) != KEPT[self.config.optimizer]:
                raise ValueError(f"optimizer: holds {shown(list(held))} of parameter {position}")
            if any(tensor.ndim and tensor.shape != sides[position] for tensor in tensors):
                raise ValueError(f"optimizer: a tensor of parameter {position} has another shape")

    def load_state(self, state: State) -> None:
        """Go on from what ``state`` gave."""
        self._broken = None
        self.detector.load_state_dict(state["model"])
        load_optimizer(self.optimizer, state["optimizer"], self.fabric.device)
        self.average.state = {name: tensor.to(self.fabric.device) for name, tensor in state["average"].items()}
        torch.set_rng_state(state["rng"])

    def share_statistics(self) -> None:
        """Give every process the mean of BatchNorm's running statistics; all processes must call this."""
        mean_statistics(self.fabric, self.detector, self.average.state)

    def method_options(self) -> dict[str, object]:
        """All constants of the method, the default ones too: a later version may have other defaults."""
        constants = asdict(self.detector.method.config)
        return {name: list(value) if isinstance(value, tuple) else value for name, value in constants.items()}

    def deployable(self) -> Deployable:
        """A copy of the network with the averaged weights and the post-processing."""
        detector = self._build()
        detector.load_state_dict(self.average.state)
        return Deployable(detector, self.spec.post)

    def checkpoint(self, metrics: Mapping[str, Any], training: State) -> Checkpoint:
        """The averaged weights as a checkpoint."""
        weights = {name: tensor.contiguous() for name, tensor in self.average.state.items()}
        return Checkpoint(self.spec, self.config.network, self.config.options, weights, training, dict(metrics))
