"""Does a manifest agree with itself? What the types of `edge.model.manifest` cannot say. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator

from edge.model.manifest import MANIFEST, TOKENIZER, Manifest, State, Tensor

_TIMESTAMP = re.compile(r"[^{}]*\{time:\.[0-9]f\}[^{}]*")

Shape = tuple[int | str, ...]
"""As in `Tensor`: a string is a symbolic dimension. An expected "" stands for any symbol."""


def inconsistencies(manifest: Manifest) -> Iterator[str]:
    """Yield one line for each place where a manifest contradicts itself or the graph signatures of its contract."""
    yield from _missing_files(manifest)
    yield from _wrong_tokens(manifest)
    yield from _wrong_dimensions(manifest)
    yield from _wrong_states(manifest)
    yield from _wrong_signatures(manifest)
    yield from _wrong_prompt(manifest)


def _missing_files(manifest: Manifest) -> Iterator[str]:
    for name in (*(graph.file for graph in manifest.graphs.all()), TOKENIZER):
        if name not in manifest.files:
            yield f"files: {name} is used and not listed"
    if MANIFEST in manifest.files:
        yield f"files: {MANIFEST} cannot list itself"


def _wrong_tokens(manifest: Manifest) -> Iterator[str]:
    tokens = manifest.tokens
    if tokens.vocab_used > tokens.vocab_rows:
        yield f"tokens: vocab_used {tokens.vocab_used} > vocab_rows {tokens.vocab_rows}"
    named = {
        "vision_start": tokens.vision_start,
        "vision_end": tokens.vision_end,
        "image_pad": tokens.image_pad,
        "video_pad": tokens.video_pad,
        **{f"eos[{at}]": token for at, token in enumerate(tokens.eos)},
    }
    for name, token in named.items():
        if token >= tokens.vocab_used:
            yield f"tokens: {name} {token} is not below vocab_used {tokens.vocab_used}"
    if len(set(named.values())) < len(named):
        yield f"tokens: special ids must differ, found {named}"


def _wrong_dimensions(manifest: Manifest) -> Iterator[str]:
    text, vision = manifest.text, manifest.vision
    if text.rope_dims % 2 or sum(text.mrope_section) != text.rope_dims // 2 or min(text.mrope_section) < 0:
        yield f"text: mrope_section {list(text.mrope_section)} must sum to half of rope_dims {text.rope_dims}"
    if text.exact_logits is not None and (not text.tied or manifest.graphs.head is None):
        yield "text: exact_logits needs a head of its own, tied to the embedding"
    if vision.head_dim % 4:
        yield f"vision: head_dim {vision.head_dim} is no multiple of 4 (rows and columns, sine and cosine)"
    for name, limits in (("video_pixels", manifest.video_pixels), ("image_pixels", manifest.image_pixels)):
        if limits.minimum > limits.maximum:
            yield f"{name}: minimum {limits.minimum} > maximum {limits.maximum}"


def _wrong_states(manifest: Manifest) -> Iterator[str]:
    every = (
        name for state in manifest.states for name in (state.input, state.output, state.scale, state.rows)
    )
    names = [name for name in every if name is not None]
    if len(set(names)) < len(names):
        yield "states: a tensor occurs twice"
    for state in manifest.states:
        symbols = [dim for dim in state.shape if isinstance(dim, str)]
        if symbols != (["M"] if state.kind == "kv" else []):
            rule = "the one symbolic dimension M" if state.kind == "kv" else "no symbolic dimension"
            yield f"states: {state.input} ({state.kind}) must have {rule}, found {list(state.shape)}"
        rounded = state.kind == "kv" and state.dtype == "int8"
        if (state.scale is not None) != rounded or (state.rows is not None) != rounded:
            yield f"states: {state.input} ({state.dtype}) must {'' if rounded else 'not '}have scale and rows"
        if any(isinstance(dim, int) and dim <= 0 for dim in state.shape):
            yield f"states: {state.input} has an empty dimension: {list(state.shape)}"


def _wrong_signatures(manifest: Manifest) -> Iterator[str]:
    vision, text = manifest.vision, manifest.text
    channels = vision.channels * vision.temporal_patch_size * vision.patch_size**2
    rows, any_ = vision.head_dim // 2, ""
    graphs = manifest.graphs
    expected: dict[str, tuple[tuple[Tensor, ...], dict[str, tuple[str, Shape]]]] = {
        "vision inputs": (
            graphs.vision.inputs,
            {
                "patches": ("uint8", (any_, any_, channels)),
                "pos_index": ("int64", (4, any_)),
                "pos_weight": ("float32", (4, any_)),
                "rope_cos": ("float32", (any_, rows)),
                "rope_sin": ("float32", (any_, rows)),
            },
        ),
        "vision outputs": (graphs.vision.outputs, {"embeds": ("float32", (any_, any_, text.hidden))}),
        "embed inputs": (graphs.embed.inputs, {"input_ids": ("int64", (1, any_))}),
        "embed outputs": (graphs.embed.outputs, {"embeds": ("float32", (1, any_, text.hidden))}),
        "decoder inputs": (
            graphs.decoder.inputs,
            {
                "inputs_embeds": ("float32", (1, any_, text.hidden)),
                "position_ids": ("int64", (1, any_)),
                "rope_cos": ("float32", (any_, text.rope_dims // 2)),
                "rope_sin": ("float32", (any_, text.rope_dims // 2)),
                "seqlens_k": ("int32", (1,)),
                "total_length": ("int32", ()),
                **{state.input: (state.dtype, state.shape) for state in manifest.states},
                **{state.scale: ("float32", _one_row(state)) for state in manifest.states if state.scale},
            },
        ),
        "decoder outputs": (
            graphs.decoder.outputs,
            {
                "logits": ("float32", (1, manifest.tokens.vocab_rows)),
                **{state.output: (state.dtype, state.shape) for state in manifest.states},
                **{state.rows: ("float32", _any_rows(state)) for state in manifest.states if state.rows},
            },
        ),
    }
    if graphs.head is not None:
        logits = {"logits": expected["decoder outputs"][1].pop("logits")}
        hidden: tuple[str, Shape] = ("float32", (1, text.hidden))
        expected["decoder outputs"][1]["hidden"] = hidden
        expected["head inputs"] = (graphs.head.inputs, {"hidden": hidden})
        expected["head outputs"] = (graphs.head.outputs, logits)
    if graphs.prefill is not None:
        expected["prefill inputs"] = (graphs.prefill.inputs, expected["decoder inputs"][1])
        outputs = dict(expected["decoder outputs"][1])
        for name in ("logits", "hidden"):
            outputs.pop(name, None)
        expected["prefill outputs"] = (graphs.prefill.outputs, outputs)
    for where, (tensors, wanted) in expected.items():
        found = {tensor.name: tensor for tensor in tensors}
        if len(found) < len(tensors) or found.keys() != wanted.keys():
            yield f"graphs: {where} are {sorted(t.name for t in tensors)}, expected {sorted(wanted)}"
            continue
        for name, (dtype, shape) in wanted.items():
            if found[name].dtype != dtype or not _fits(found[name].shape, shape):
                yield (
                    f"graphs: {where}: {name} is {found[name].dtype} {list(found[name].shape)}, "
                    f"expected {dtype} {[dim or '*' for dim in shape]}"
                )


def _one_row(state: State) -> Shape:
    return tuple(1 if isinstance(dim, str) else dim for dim in state.shape)


def _any_rows(state: State) -> Shape:
    return tuple("" if isinstance(dim, str) else dim for dim in state.shape)


def _fits(found: Shape, wanted: Shape) -> bool:
    return len(found) == len(wanted) and all(
        have == want or (want == "" and isinstance(have, str))
        for have, want in zip(found, wanted, strict=True)
    )


def _wrong_prompt(manifest: Manifest) -> Iterator[str]:
    prompt = manifest.prompt
    for name, piece in (("user_open", prompt.user_open), ("user_close", prompt.user_close)):
        if not piece:
            yield f"prompt: {name} is empty"
    if not _TIMESTAMP.fullmatch(prompt.timestamp):
        yield f"prompt: timestamp {prompt.timestamp!r} must hold {{time:.1f}}, or another number of digits, once"
