"""Swin: its attention against the definition, its names, what is loaded, frozen and dropped."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from aweigh.runtime.errors import BadInput
from aweigh.runtime.spec import InputSpec
from aweigh.train.models.detector import architecture, build_detector
from aweigh.train.models.freezing import freeze
from aweigh.train.models.swin import (
    WINDOW,
    Block,
    PatchMerging,
    Swin,
    WindowAttention,
    shift_mask,
    to_whole_windows,
)
from aweigh.train.weights.backbone import load_backbone


def plain_attention(block: Block, x: Tensor) -> Tensor:
    """Attention of a block, place by place in float64: who attends to whom is decided by coordinates."""
    height, width, channels = x.shape
    attn, shift = block.attn, 3 if block.shifted else 0
    padded = (-(-height // WINDOW) * WINDOW, -(-width // WINDOW) * WINDOW)
    full = torch.zeros(*padded, channels, dtype=x.dtype)
    full[:height, :width] = x
    q, k, v = (attn.qkv.weight @ full[..., None]).squeeze(-1).add(attn.qkv.bias).split(channels, -1)
    c = channels // attn.heads

    def area(place: int, side: int) -> tuple[int, int]:
        """Window after the shift, and whether the place came round the end."""
        moved = (place - shift) % side
        return moved // WINDOW, int(shift > 0 and place < shift)

    out = torch.zeros(height, width, channels, dtype=x.dtype)
    places = [(i, j) for i in range(padded[0]) for j in range(padded[1])]
    for i, j in ((i, j) for i, j in places if i < height and j < width):
        home = (area(i, padded[0]), area(j, padded[1]))
        others = [(a, b) for a, b in places if (area(a, padded[0]), area(b, padded[1])) == home]
        for head in range(attn.heads):
            part = slice(head * c, head * c + c)
            logits = torch.stack(
                [
                    q[i, j, part] @ k[a, b, part] / c**0.5
                    + attn.relative_position_bias_table[
                        (moved(i, shift, padded[0]) - moved(a, shift, padded[0]) + WINDOW - 1) * (2 * WINDOW - 1)
                        + (moved(j, shift, padded[1]) - moved(b, shift, padded[1]) + WINDOW - 1),
                        head,
                    ]
                    for a, b in others
                ]
            )
            values = torch.stack([v[a, b, part] for a, b in others])
            out[i, j, part] = logits.softmax(0) @ values
    return (attn.proj.weight @ out[..., None]).squeeze(-1) + attn.proj.bias


def moved(place: int, shift: int, side: int) -> int:
    return (place - shift) % side


@pytest.mark.parametrize("shifted", [False, True])
def test_attention_is_that_of_its_definition(shifted: bool) -> None:
    torch.manual_seed(0)
    block = Block(8, shifted, 0.0).double()
    block.attn.heads = 2
    block.attn.relative_position_bias_table = torch.nn.Parameter(torch.randn(169, 2).double())
    x = torch.randn(1, 9, 12, 8, dtype=torch.float64)
    with torch.no_grad():
        found = block._attention(x, shift_mask(to_whole_windows(x[:1, :, :, :1])))[0]
        torch.testing.assert_close(found, plain_attention(block, x[0]), rtol=1e-9, atol=1e-9)


def test_patches_are_merged_in_the_authors_order() -> None:
    merging = PatchMerging(1)
    merging.norm = torch.nn.Identity()  # type: ignore[assignment]
    merging.reduction = torch.nn.Identity()  # type: ignore[assignment]
    x = torch.tensor([[0.0, 1.0], [2.0, 3.0]]).view(1, 2, 2, 1)
    assert merging(x).flatten().tolist() == [0.0, 2.0, 1.0, 3.0]


def test_size_of_the_published_network() -> None:
    """28,288,354 parameters with the classifier of 1,000 classes (769,000) and its norm; here three norms instead."""
    count = sum(p.numel() for p in Swin(12, 96).parameters())
    assert count == 28_288_354 - 769_000 - 2 * 768 + 2 * (192 + 384 + 768)


def transformers_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors as transformers' SwinForImageClassification saves them."""
    theirs = {"classifier.weight": torch.zeros(1000, 64), "swin.layernorm.weight": torch.zeros(64)}
    for name, tensor in state.items():
        if name.startswith("out_norms") or name.endswith("relative_position_index"):
            continue
        name = name.replace("patch_embed.proj", "embeddings.patch_embeddings.projection")
        name = name.replace("patch_embed.norm", "embeddings.norm").replace("layers.", "encoder.layers.")
        name = name.replace("norm1", "layernorm_before").replace("norm2", "layernorm_after")
        name = name.replace("mlp.fc1", "intermediate.dense").replace("mlp.fc2", "output.dense")
        name = name.replace("attn.proj", "attention.output.dense")
        if "attn.qkv" in name:
            for part, one in zip(("query", "key", "value"), tensor.chunk(3), strict=True):
                theirs["swin." + name.replace("attn.qkv", f"attention.self.{part}")] = one
        else:
            theirs["swin." + name.replace("attn.", "attention.self.")] = tensor
    return theirs


@pytest.mark.parametrize("form", ["authors", "transformers"])
def test_weights_of_the_authors_and_of_transformers(form: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    source, target = Swin(12, 8).eval(), Swin(12, 8).eval()
    state = dict(source.state_dict())
    if form == "authors":
        state = {name: tensor for name, tensor in state.items() if not name.startswith("out_norms")}
        torch.save({"model": {**state, "head.weight": torch.zeros(1000, 64)}}, tmp_path / "swin.pth")
    else:
        torch.save(transformers_names(state), tmp_path / "swin.pth")
    loaded = load_backbone(target, str(tmp_path / "swin.pth"))
    assert set(loaded.missing) == {f"out_norms.{i}.{what}" for i in range(3) for what in ("weight", "bias")}
    x = torch.rand(1, 3, 64, 96)
    for ours, theirs in zip(target(x), source(x), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


def test_frozen_stages_and_sizes() -> None:
    detector = build_detector("swin-t", "fcos", 2, InputSpec((64, 96)), {"width": 8, "channels": 16, "convs": 1})
    freeze(detector, 1, "fixed")
    learning = {name for name, p in detector.backbone.named_parameters() if p.requires_grad}
    assert not [name for name in learning if name.startswith(("patch_embed", "layers.0"))]
    assert "layers.1.blocks.0.attn.qkv.weight" in learning
    maps = detector(torch.zeros(1, 64, 96, 3, dtype=torch.uint8))
    assert [tuple(level["cls"].shape[-2:]) for level in maps] == [(8, 12), (4, 6), (2, 3), (1, 2), (1, 1)]
    with pytest.raises(BadInput, match="light_stem"):
        architecture("swin-t", {"light_stem": True})
    with pytest.raises(BadInput, match="12, 24"):
        architecture("swin-t", {"depth": 50})


def test_dropped_paths_keep_the_mean_and_end_with_training() -> None:
    torch.manual_seed(0)
    block = Block(8, False, 0.5)
    x = torch.ones(4000, 1, 1, 1)
    kept = block.train()._kept(x)
    assert set(kept.unique().tolist()) == {0.0, 2.0}
    assert kept.mean().item() == pytest.approx(1.0, abs=0.1)
    assert block.eval()._kept(x) is x


def test_attention_with_layers_in_16_bits() -> None:
    """As an export in half precision lowers them: the bias by position stays FP32."""
    torch.manual_seed(0)
    attention = WindowAttention(32).eval()
    attention.relative_position_bias_table.data.normal_()
    x = torch.randn(1, 2, 2, 49, 32)
    with torch.no_grad():
        expected = attention(x, None)
        for layer in (attention.qkv, attention.proj):
            layer.half()
        got = attention(x.half(), None)
    assert got.dtype == torch.float16
    torch.testing.assert_close(got.float(), expected, rtol=0, atol=2e-3)
