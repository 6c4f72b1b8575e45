"""The tensors that a Qwen3.5 checkpoint must hold: name -> shape, as `Qwen3_5ForConditionalGeneration` saves them."""

from __future__ import annotations

from typing import Final

from export.checkpoint.dims import Dims, TextDims, VisionDims

Shapes = dict[str, tuple[int, ...]]

TEXT: Final = "model.language_model"
VISION: Final = "model.visual"
EMBEDDING: Final = f"{TEXT}.embed_tokens.weight"
HEAD: Final = "lm_head.weight"
IGNORED: Final = ("mtp.",)  # multi-token prediction: a draft head that this runtime does not use


def expected_tensors(dims: Dims) -> Shapes:
    """List every tensor that a conversion reads."""
    text = dims.text
    shapes: Shapes = {EMBEDDING: (text.vocab_rows, text.hidden), f"{TEXT}.norm.weight": (text.hidden,)}
    if not text.tied:
        shapes[HEAD] = (text.vocab_rows, text.hidden)
    for layer, mixer in enumerate(text.mixers):
        at = f"{TEXT}.layers.{layer}"
        shapes[f"{at}.input_layernorm.weight"] = (text.hidden,)
        shapes[f"{at}.post_attention_layernorm.weight"] = (text.hidden,)
        shapes[f"{at}.mlp.gate_proj.weight"] = (text.ffn, text.hidden)
        shapes[f"{at}.mlp.up_proj.weight"] = (text.ffn, text.hidden)
        shapes[f"{at}.mlp.down_proj.weight"] = (text.hidden, text.ffn)
        shapes |= _delta_net(text, at) if mixer == "linear_attention" else _attention(text, at)
    return shapes | _vision(dims.vision)


def _attention(text: TextDims, layer: str) -> Shapes:
    at, queries, keys = f"{layer}.self_attn", text.heads * text.head_dim, text.kv_heads * text.head_dim
    return {
        f"{at}.q_proj.weight": (2 * queries, text.hidden),
        f"{at}.k_proj.weight": (keys, text.hidden),
        f"{at}.v_proj.weight": (keys, text.hidden),
        f"{at}.o_proj.weight": (text.hidden, queries),
        f"{at}.q_norm.weight": (text.head_dim,),
        f"{at}.k_norm.weight": (text.head_dim,),
    }


def _delta_net(text: TextDims, layer: str) -> Shapes:
    at = f"{layer}.linear_attn"
    return {
        f"{at}.in_proj_qkv.weight": (text.conv_width, text.hidden),
        f"{at}.in_proj_z.weight": (text.value_width, text.hidden),
        f"{at}.in_proj_b.weight": (text.value_heads, text.hidden),
        f"{at}.in_proj_a.weight": (text.value_heads, text.hidden),
        f"{at}.conv1d.weight": (text.conv_width, 1, text.conv_kernel),
        f"{at}.norm.weight": (text.value_dim,),
        f"{at}.out_proj.weight": (text.hidden, text.value_width),
        f"{at}.A_log": (text.value_heads,),
        f"{at}.dt_bias": (text.value_heads,),
    }


def _vision(vision: VisionDims) -> Shapes:
    width = vision.hidden
    shapes: Shapes = {
        f"{VISION}.patch_embed.proj.weight": (
            width,
            vision.channels,
            vision.temporal_patch,
            vision.patch,
            vision.patch,
        ),
        f"{VISION}.patch_embed.proj.bias": (width,),
        f"{VISION}.pos_embed.weight": (vision.positions**2, width),
        f"{VISION}.merger.norm.weight": (width,),
        f"{VISION}.merger.norm.bias": (width,),
        f"{VISION}.merger.linear_fc1.weight": (vision.merged, vision.merged),
        f"{VISION}.merger.linear_fc1.bias": (vision.merged,),
        f"{VISION}.merger.linear_fc2.weight": (vision.out, vision.merged),
        f"{VISION}.merger.linear_fc2.bias": (vision.out,),
    }
    for block in range(vision.depth):
        at = f"{VISION}.blocks.{block}"
        for norm in ("norm1", "norm2"):
            shapes[f"{at}.{norm}.weight"] = shapes[f"{at}.{norm}.bias"] = (width,)
        for name, outputs, inputs in (
            ("attn.qkv", 3 * width, width),
            ("attn.proj", width, width),
            ("mlp.linear_fc1", vision.ffn, width),
            ("mlp.linear_fc2", width, vision.ffn),
        ):
            shapes[f"{at}.{name}.weight"] = (outputs, inputs)
            shapes[f"{at}.{name}.bias"] = (outputs,)
    return shapes
