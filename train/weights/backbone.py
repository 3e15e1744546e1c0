"""ImageNet weights of a backbone, under the names of torchvision, of Swin's authors, of transformers and of Lite."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from aweigh.runtime.errors import BadInput
from aweigh.train.weights.source import fetch_weights
from aweigh.train.weights.tensor_file import read_tensors

# A file that has less than this share of the backbone's tensors is of another network.
_LEAST_SHARE = 0.75
_CONTAINERS = ("state_dict", "model")  # keys under which training scripts put the tensors
_PREFIX = re.compile(r"^(module|backbone|encoder|swin)\.(?=.)")
_COMPUTED = ("num_batches_tracked", "relative_position_index", "attn_mask")  # not learned
# transformers' Swin in the names of its authors, in this order.
_SWIN = (
    ("embeddings.patch_embeddings.projection.", "patch_embed.proj."),
    ("embeddings.norm.", "patch_embed.norm."),
    (".layernorm_before.", ".norm1."),
    (".layernorm_after.", ".norm2."),
    (".attention.self.", ".attn."),
    (".attention.output.dense.", ".attn.proj."),
    (".intermediate.dense.", ".mlp.fc1."),
    (".output.dense.", ".mlp.fc2."),
)
_LITE = re.compile(r"(^|\.)_(?=\w)")  # EfficientNet-Lite begins every name with an underscore
# torchvision's Swin in the names of its authors; its parts are numbered: the patches, then stages and mergers in turn.
_TORCHVISION_SWIN = re.compile(r"^features\.(?P<part>\d+)\.(?P<rest>.+)$")
_TORCHVISION_MLP = ((".mlp.0.", ".mlp.fc1."), (".mlp.3.", ".mlp.fc2."))


@dataclass(frozen=True)
class Loaded:
    """The result of loading a file of weights.

    Attributes:
        loaded: tensors taken, of ``total`` that the backbone has.
        missing: names of the backbone's tensors that the file lacks, or has in another shape, with both shapes.
        unused: names in the file that the backbone does not have (the classifier's, mostly).
    """

    loaded: int
    total: int
    missing: tuple[str, ...]
    unused: tuple[str, ...]

    def __str__(self) -> str:
        def listed(names: tuple[str, ...]) -> str:
            more = f", ... {len(names) - 6} more" if len(names) > 6 else ""
            return ", ".join(names[:6]) + more if names else "none"

        return (
            f"{self.loaded} of {self.total} tensors loaded; left at random: {listed(self.missing)}; "
            f"unused: {listed(self.unused)}"
        )


def load_backbone(backbone: nn.Module, source: str) -> Loaded:
    """Load the tensors of ``source`` that fit into a backbone; :func:`fetch_weights` lists the kinds of source.

    Raises:
        BadInput: as ``fetch_weights``; not a file of tensors; of a network that is not this one.
        CannotRun: as ``fetch_weights``.
    """
    state = translated(_read(source))
    own = {name: tensor for name, tensor in backbone.state_dict().items() if not name.endswith(_COMPUTED)}
    fitting = {name: state[name] for name, tensor in own.items() if name in state and state[name].shape == tensor.shape}
    missing = tuple(
        f"{name} (file {tuple(state[name].shape)}, network {tuple(tensor.shape)})" if name in state else name
        for name, tensor in own.items()
        if name not in fitting
    )
    if len(fitting) < _LEAST_SHARE * len(own):
        raise BadInput(
            f"--weights {source}: {len(missing)} of the backbone's {len(own)} tensors do not fit, first "
            f"{'; '.join(missing[:3])}; take weights of the same depth and width and of the standard stem"
        )
    backbone.load_state_dict(fitting, strict=False)
    return Loaded(len(fitting), len(own), missing, tuple(sorted(set(state) - set(own))))


def translated(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors under the names of aweigh's backbones, without those that are computed and not learned."""
    named: dict[str, Tensor] = {}
    for name, tensor in state.items():
        while (shorter := _PREFIX.sub("", name)) != name:
            name = shorter
        if name.endswith(_COMPUTED):
            continue
        for theirs, ours in _SWIN:
            name = name.replace(theirs, ours)
        named[_from_torchvision_swin(_LITE.sub(r"\1", name))] = tensor
    for name in [name for name in named if ".attn.query." in name]:  # one matrix here
        parts = [name.replace(".query.", f".{part}.") for part in ("query", "key", "value")]
        if all(part in named for part in parts):
            named[name.replace(".query.", ".qkv.")] = torch.cat([named.pop(part) for part in parts])
    return named


def _from_torchvision_swin(name: str) -> str:
    match = _TORCHVISION_SWIN.fullmatch(name)
    if match is None:
        return name
    part, rest = int(match["part"]), match["rest"]
    if part == 0:
        return f"patch_embed.{rest.replace('0.', 'proj.', 1).replace('2.', 'norm.', 1)}"
    if part % 2 == 0:
        return f"layers.{part // 2 - 1}.downsample.{rest}"
    for theirs, ours in _TORCHVISION_MLP:
        rest = rest.replace(theirs, ours)
    return f"layers.{part // 2}.blocks.{rest}"


def _read(source: str) -> dict[str, Tensor]:
    path = fetch_weights(source)
    state = read_tensors(path, "--weights")
    for key in _CONTAINERS:
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not isinstance(state, dict) or not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise BadInput(f"--weights {source}: expected named tensors, as torchvision or transformers save them")
    return state
