"""Runs transformers' Qwen3.5 as the engine does: a clip once, then each question from a fork of that point, with gradients.

The clip is most of the tokens, so asking it several questions costs little more than one. The modules are transformers'
own; only what they keep in a cache is held here, without writing in place, so gradients flow back through the fork.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def visual_tokens(visual: Any, patches: Tensor, rows: int, columns: int) -> Tensor:
    """Run the vision tower on many pairs of one size at once.

    The tower's own forward walks through the pairs one by one in every block; its result is the same.

    Args:
        visual: The model's ``Qwen3_5VisionModel``.
        patches: uint8, shape (N, P, C), in the processor's order.
        rows: Patches down.
        columns: Patches across, P = rows * columns.

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
    pixels = (
        patches.float().sub_(127.5).mul_(1 / 127.5)
    )  # mean and deviation are 0.5; dividing takes thrice as long
    stem = visual.patch_embed.proj  # a convolution whose kernel is the whole patch: a product, only slower
    hidden = torch.nn.functional.linear(pixels, stem.weight.flatten(1), stem.bias) + places
    cosine, sine = visual.rotary_pos_emb(
        hidden, get_vision_position_ids(grid, visual.spatial_merge_size, kwargs={})
    )
    for block in visual.blocks:
        hidden = hidden + _attend(block.attn, block.norm1(hidden), cosine, sine)
        hidden = hidden + block.mlp(block.norm2(hidden))
    merged: Tensor = visual.merger(hidden)
    return merged.view(pairs, count // visual.spatial_merge_unit, -1)


def _attend(attention: Any, hidden: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    from transformers.models.qwen3_5.modeling_qwen3_5 import apply_rotary_pos_emb_vision

    pairs, count, width = hidden.shape
    query, key, value = (
        attention.qkv(hidden).view(pairs, count, 3, attention.num_heads, attention.head_dim).unbind(2)
    )
    query, key = apply_rotary_pos_emb_vision(query, key, cosine, sine)
    mixed = torch.nn.functional.scaled_dot_product_attention(
        query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2), scale=attention.scaling
    )
    out: Tensor = attention.proj(mixed.transpose(1, 2).reshape(pairs, count, width))
    return out


class Trace:
    """What the layers leave behind at the end of a clip; stands in for transformers' cache while the clip runs."""

    def __init__(self) -> None:
        self.attention: dict[int, tuple[Tensor, Tensor]] = {}
        self.convolved: dict[int, Tensor] = {}
        self.recurrent: dict[int, Tensor] = {}

    def get_conv_state(self, layer: int, state_idx: int = 0) -> None:
        """Nothing came before."""

    def get_recurrent_state(self, layer: int, state_idx: int = 0) -> None:
        """Nothing came before."""

    def update_conv_state(self, channels: Tensor, layer: int, conv_kernel_size: int) -> Tensor:
        """Keep what the next tokens' convolution reaches back to."""
        self.convolved[layer] = channels[..., -conv_kernel_size:]
        return channels

    def update_recurrent_state(self, state: Tensor, layer: int) -> None:
        """Keep the state."""
        self.recurrent[layer] = state

    def update(self, keys: Tensor, values: Tensor, layer: int) -> tuple[Tensor, Tensor]:
        """Keep keys and values."""
        self.attention[layer] = keys, values
        return keys, values


class Continued:
    """A trace as what came before, once per question; takes nothing in.

    Args:
        trace: Of the clips.
        owner: int64, shape (Q,): the clip that each question is about.
    """

    def __init__(self, trace: Trace, owner: Tensor) -> None:
        self._trace = trace
        self._owner = owner

    def get_conv_state(self, layer: int, state_idx: int = 0) -> Tensor:
        """Return the clip's last columns."""
        del state_idx
        return self._trace.convolved[layer][self._owner]

    def get_recurrent_state(self, layer: int, state_idx: int = 0) -> Tensor:
        """Return the clip's state."""
        del state_idx
        return self._trace.recurrent[layer][self._owner]

    def is_recording_past(self, layer: int) -> bool:
        """Say no: nothing is rolled back."""
        del layer
        return False

    def update_conv_state(self, channels: Tensor, layer: int, conv_kernel_size: int) -> Tensor:
        """Put the clip's last columns in front."""
        del conv_kernel_size
        return torch.cat([self._trace.convolved[layer][self._owner], channels], dim=-1)

    def update_recurrent_state(self, state: Tensor, layer: int) -> None:
        """Nobody asks for it again."""

    def update(self, keys: Tensor, values: Tensor, layer: int) -> tuple[Tensor, Tensor]:
        """Put the clip's keys and values in front."""
        before = self._trace.attention[layer]
        return (
            torch.cat([before[0][self._owner], keys], dim=2),
            torch.cat([before[1][self._owner], values], dim=2),
        )


def watch(language: Any, embeds: Tensor, positions: Tensor) -> Trace:
    """Run clips of one layout.

    Args:
        language: The model's ``Qwen3_5TextModel``.
        embeds: Shape (B, L, H).
        positions: int64, shape (3, L).
    """
    trace = Trace()
    language(
        inputs_embeds=embeds,
        position_ids=positions[:, None].expand(3, len(embeds), -1),
        attention_mask={"full_attention": None, "linear_attention": None},
        past_key_values=trace,
        use_cache=True,
    )
    return trace


def ask(language: Any, trace: Trace, owner: Tensor, embeds: Tensor, start: int) -> Tensor:
    """Go on from the clips' end with questions and their answers.

    Args:
        language: The model's ``Qwen3_5TextModel``.
        trace: What the clips left.
        owner: int64, shape (Q,): the clip of each question.
        embeds: Shape (Q, S, H), S >= 2; padding stands at the end, where nothing looks back at it.
        start: M-RoPE position of the first token.

    Returns:
        The last layer's hidden states, shape (Q, S, H).
    """
    count, length, _ = embeds.shape
    before = next(iter(trace.attention.values()))[0].shape[2]
    seen = torch.ones(length, before + length, dtype=torch.bool, device=embeds.device).tril(before)
    positions = torch.arange(start, start + length, device=embeds.device)
    hidden: Tensor = language(
        inputs_embeds=embeds,
        position_ids=positions.expand(3, count, length),
        attention_mask={"full_attention": seen[None, None], "linear_attention": None},
        past_key_values=Continued(trace, owner),
        use_cache=True,
    ).last_hidden_state
    return hidden
