"""Runs transformers' Qwen3.5 as the engine does: a clip once, then each question from a fork of that point, with gradients.

The clip is most of the tokens, so asking it several questions costs little more than one. The modules' weights are
transformers' own and so are the results; the loops are this file's, because transformers' take several times as long on a
CPU, and because its cache writes in place, where no gradient flows back through the fork.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

import torch
from torch import Tensor
from torch.nn import functional

from export.demo.kernels import causal_softmax, convolve, delta_rule, gated_norm, rms_norm, swiglu

_ROWS: Final = 256  # tokens that look back at once: later keys are not even multiplied


def visual_tokens(
    visual: Any, patches: Tensor, rows: int, columns: int, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Run the vision tower on many pairs of one size at once.

    The tower's own forward walks through the pairs one by one in every block; its result is the same.

    Args:
        visual: The model's ``Qwen3_5VisionModel``.
        patches: uint8, shape (N, P, C), in the processor's order.
        rows: Patches down.
        columns: Patches across, P = rows * columns.
        dtype: Of the products.

    Returns:
        Shape (N, P / 4, H).
    """
    from transformers.vision_utils import (
        get_vision_interpolation_indices_and_weights,
        get_vision_position_ids,
    )

    pairs, count, _ = patches.shape
    grid = torch.tensor([[1, rows, columns]], device=patches.device)
    index, weight = get_vision_interpolation_indices_and_weights(
        grid,
        num_grid_per_side=visual.num_grid_per_side,
        mode=visual.interpolation_mode,
        align_corners=visual.interpolation_align_corners,
        spatial_merge_size=visual.config.spatial_merge_size,
        kwargs={},
    )
    places = (visual.pos_embed(index) * weight[:, :, None]).sum(1)
    # Mean and deviation are 0.5. Dividing takes thrice as long as multiplying.
    pixels = patches.to(dtype).sub_(127.5).mul_(1 / 127.5)
    stem = visual.patch_embed.proj  # a convolution whose kernel is the whole patch: a product, only slower
    hidden = _linear(pixels, stem.weight.flatten(1), stem.bias) + places.to(dtype)
    cosine, sine = (
        each[:, None]
        for each in visual.rotary_pos_emb(
            hidden.float(), get_vision_position_ids(grid, visual.spatial_merge_size, kwargs={})
        )
    )
    for block in visual.blocks:
        hidden = hidden + _look(block.attn, _layer_norm(block.norm1, hidden), cosine, sine)
        narrow = block.mlp
        inner = functional.gelu(_of(narrow.linear_fc1, _layer_norm(block.norm2, hidden)), approximate="tanh")
        hidden = hidden + _of(narrow.linear_fc2, inner)
    merger = visual.merger
    merged = _layer_norm(merger.norm, hidden).view(-1, hidden.shape[-1] * visual.spatial_merge_unit)
    found = _of(merger.linear_fc2, functional.gelu(_of(merger.linear_fc1, merged)))
    return found.view(pairs, count // visual.spatial_merge_unit, -1)


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    return functional.linear(x, weight.to(x.dtype), None if bias is None else bias.to(x.dtype))


def _of(module: Any, x: Tensor) -> Tensor:
    return _linear(x, module.weight, module.bias)


def _layer_norm(module: Any, x: Tensor) -> Tensor:
    return functional.layer_norm(
        x, module.normalized_shape, module.weight.to(x.dtype), module.bias.to(x.dtype), module.eps
    )


def _look(attention: Any, hidden: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    from transformers.models.qwen3_5.modeling_qwen3_5 import rotate_half

    pairs, count, width = hidden.shape
    both = _of(attention.qkv, hidden).view(pairs, count, 3, attention.num_heads, attention.head_dim)
    query, key, value = both.unbind(2)
    query, key = (
        (each.float() * cosine + rotate_half(each.float()) * sine).to(value.dtype) for each in (query, key)
    )
    # By hand: PyTorch's fused attention is several times slower on a CPU with so few tokens a pair.
    query, key, value = (each.transpose(1, 2) for each in (query, key, value))
    weights = (query * attention.scaling @ key.transpose(-1, -2)).softmax(-1)
    return _of(attention.proj, (weights @ value).transpose(1, 2).reshape(pairs, count, width))


@dataclass(slots=True)
class Trace:
    """What the layers leave behind at the end of a clip, by number of the layer.

    Attributes:
        length: Tokens of the clip.
        attention: Keys and values, each of shape (B, heads, length, D).
        convolved: The last columns before the convolution, shape (B, 3, C).
        recurrent: States, shape (B, heads, D, D).
    """

    length: int = 0
    attention: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)
    convolved: dict[int, Tensor] = field(default_factory=dict)
    recurrent: dict[int, Tensor] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Run:
    """One pass over the layers: the rotation of its positions, what came before, and what is left behind."""

    cosine: Tensor
    sine: Tensor
    before: Trace
    owner: Tensor | None
    left: Trace | None
    dtype: torch.dtype

    def own(self, state: Tensor) -> Tensor:
        return state if self.owner is None else state[self.owner]


def watch(
    language: Any, embeds: Tensor, positions: Tensor, dtype: torch.dtype = torch.float32
) -> tuple[Trace, Tensor, Tensor]:
    """Run clips of one layout.

    Args:
        language: The model's ``Qwen3_5TextModel``.
        embeds: Shape (B, L, H).
        positions: int64, shape (3, L).
        dtype: Of the products.

    Returns:
        The trace, and the states halfway, behind the first layer of attention, and late, before the last one, shape
        (B, L, H), not normed.
    """
    trace = Trace(length=embeds.shape[1])
    cosine, sine = language.rotary_emb(embeds, positions[:, None])
    halfway, late, _ = _through(language, embeds, _Run(cosine, sine, Trace(), None, trace, dtype))
    return trace, halfway, late


def ask(
    language: Any,
    trace: Trace,
    owner: Tensor,
    embeds: Tensor,
    positions: Tensor,
    *,
    dtype: torch.dtype = torch.float32,
) -> tuple[Tensor, Tensor]:
    """Go on from the clips' end with questions and their answers.

    Args:
        language: The model's ``Qwen3_5TextModel``.
        trace: What the clips left.
        owner: int64, shape (Q,): the clip of each question.
        embeds: Shape (Q, S, H); padding stands at the end, where nothing looks back at it.
        positions: M-RoPE positions, int64, shape (3, S).
        dtype: Of the products.

    Returns:
        The late states, see `watch`, and the last layer's after the norm, each of shape (Q, S, H).
    """
    cosine, sine = language.rotary_emb(embeds, positions[:, None])
    _, late, hidden = _through(language, embeds, _Run(cosine, sine, trace, owner, None, dtype))
    return late, rms_norm(hidden, 1 + language.norm.weight, torch.float32)


def _through(language: Any, hidden: Tensor, run: _Run) -> tuple[Tensor, Tensor, Tensor]:
    """Return the states behind the first layer of attention, those before the last one, and those at the end."""
    halfway = late = None
    for number, layer in enumerate(language.layers):
        if hasattr(layer, "self_attn"):
            late = hidden
        normed = rms_norm(hidden, 1 + layer.input_layernorm.weight, run.dtype)
        if hasattr(layer, "linear_attn"):
            mixed = _remember(layer.linear_attn, number, normed, run)
        else:
            mixed = _look_back(layer.self_attn, number, normed, run)
        hidden = hidden + mixed
        normed = rms_norm(hidden, 1 + layer.post_attention_layernorm.weight, run.dtype)
        wide = torch.cat([layer.mlp.gate_proj.weight, layer.mlp.up_proj.weight])
        hidden = hidden + _linear(swiglu(_linear(normed, wide)), layer.mlp.down_proj.weight)
        if halfway is None and hasattr(layer, "self_attn"):
            halfway = hidden
    return hidden if halfway is None else halfway, hidden if late is None else late, hidden


def _remember(layer: Any, number: int, hidden: Tensor, run: _Run) -> Tensor:
    """Run a DeltaNet layer."""
    count, length, _ = hidden.shape
    heads, width = layer.num_v_heads, layer.head_v_dim
    columns = _linear(hidden, layer.in_proj_qkv.weight)
    gate = _linear(hidden, layer.in_proj_z.weight).view(count, length, heads, width)
    rate, step = (
        _linear(hidden, torch.cat([layer.in_proj_b.weight, layer.in_proj_a.weight])).float().chunk(2, -1)
    )
    decay = -layer.A_log.float().exp() * functional.softplus(step + layer.dt_bias)
    if number in run.before.convolved:
        front = run.own(run.before.convolved[number])
        state = run.own(run.before.recurrent[number])
    else:
        front = columns.new_zeros(count, 3, columns.shape[-1])
        state = hidden.new_zeros(count, heads, width, width, dtype=torch.float32)
    mixed = convolve(columns, layer.conv1d.weight[:, 0], front)
    read, state = delta_rule(mixed, decay, rate.sigmoid(), state)
    if run.left is not None:
        run.left.convolved[number] = torch.cat([front, columns], 1)[:, -3:] if length < 3 else columns[:, -3:]
        run.left.recurrent[number] = state
    normed = gated_norm(read, gate, layer.norm.weight)
    return _linear(normed.view(count, length, -1), layer.out_proj.weight)


def _look_back(layer: Any, number: int, hidden: Tensor, run: _Run) -> Tensor:
    """Run a layer of attention."""
    from transformers.models.qwen3_5.modeling_qwen3_5 import apply_rotary_pos_emb

    count, length, _ = hidden.shape
    width = layer.head_dim
    query, gate = _linear(hidden, layer.q_proj.weight).view(count, length, -1, 2 * width).chunk(2, -1)
    key = _linear(hidden, layer.k_proj.weight).view(count, length, -1, width)
    value = _linear(hidden, layer.v_proj.weight).view(count, length, -1, width).transpose(1, 2)
    query, key = (
        rms_norm(each.float(), 1 + norm.weight, torch.float32).transpose(1, 2)
        for each, norm in ((query, layer.q_norm), (key, layer.k_norm))
    )
    query, key = apply_rotary_pos_emb(query, key, run.cosine, run.sine)
    query, key = (query * layer.scaling).to(value.dtype), key.to(value.dtype)
    before = 0
    if run.left is not None:
        run.left.attention[number] = key, value
    if number in run.before.attention:
        before = run.before.length
        past = run.before.attention[number]
        key, value = torch.cat([run.own(past[0]), key], 2), torch.cat([run.own(past[1]), value], 2)
    key, value = (each.repeat_interleave(layer.num_key_value_groups, 1) for each in (key, value))
    found = []
    for first in range(0, length, _ROWS):
        past_end = before + min(length, first + _ROWS)
        scores = query[:, :, first : first + _ROWS] @ key[:, :, :past_end].transpose(-1, -2)
        found.append(causal_softmax(scores, before + first) @ value[:, :, :past_end])
    mixed = torch.cat(found, 2).transpose(1, 2) * gate.sigmoid()
    return _linear(mixed.reshape(count, length, -1), layer.o_proj.weight)
