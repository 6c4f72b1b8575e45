"""The literal pieces of the prompt, rendered from the checkpoint's own chat template."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from edge.errors import CheckpointError
from edge.model.manifest import PromptPieces
from export.checkpoint.fields import Fields, read_json

# Not in the template: the processor writes it before each pair (transformers, processing_qwen3_vl.py).
TIMESTAMP: Final = "<{time:.1f} seconds>"
EMPTY_THOUGHT: Final = "<think>\n\n</think>\n\n"
_VISION: Final = "<|vision_start|><|video_pad|><|vision_end|>"
_TEXT: Final = "edgeclip-marks-the-text"
_COMPARE: Final = "Compare the template with that of the original release, Qwen/Qwen3.5-0.8B."


def read_template(directory: Path) -> tuple[str, dict[str, str]]:
    """Return the chat template and the special tokens that it may name; places in transformers' order.

    Raises:
        CheckpointError: There is no template.
    """
    settings: dict[str, Any] = {}
    if (directory / "tokenizer_config.json").is_file():
        settings = read_json(directory / "tokenizer_config.json")
    tokens = {key: _token(value) for key, value in settings.items() if key.endswith("_token")}
    try:
        template = (directory / "chat_template.jinja").read_text(encoding="utf-8")
    except FileNotFoundError:
        found = settings.get("chat_template")
        if (directory / "chat_template.json").is_file():
            found = read_json(directory / "chat_template.json").get("chat_template")
        if isinstance(found, list):  # named templates
            found = next((item.get("template") for item in found if item.get("name") == "default"), None)
        if not isinstance(found, str):
            raise CheckpointError(
                f"checkpoint {directory} has no chat template",
                next_step="It lies in chat_template.jinja or tokenizer_config.json of the release: copy it there.",
            ) from None
        template = found
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{directory}/chat_template.jinja cannot be read: {error}") from error
    return template, {key: value for key, value in tokens.items() if value is not None}


def prompt_pieces(template: str, tokens: dict[str, str]) -> PromptPieces:
    """Render a question without and with a video, and cut the constant pieces out.

    Non-thinking mode is the template's default in the small releases; where it is not, it is asked for.

    Raises:
        CheckpointError: The template fails, or does not put its parts where the runtime expects them.
    """
    for options in ({}, {"enable_thinking": False}):
        plain = _render(template, [{"type": "text", "text": _TEXT}], tokens | options)
        if plain.endswith(EMPTY_THOUGHT):
            break
    else:
        raise CheckpointError(
            "the chat template has no non-thinking mode",
            evidence=[f"the prompt ends in {plain[-60:]!r}, expected {EMPTY_THOUGHT!r}"],
            next_step=_COMPARE,
        )
    if plain.count(_TEXT) != 1:
        raise CheckpointError(
            "the chat template does not repeat the text of a question once",
            evidence=[repr(plain[:200])],
            next_step=_COMPARE,
        )
    user_open, user_close = plain.split(_TEXT)
    content = [{"type": "video"}, {"type": "text", "text": _TEXT}]
    seen = _render(template, content, tokens | options)
    expected = f"{user_open}{_VISION}{_TEXT}{user_close}"
    if seen != expected:
        raise CheckpointError(
            "the chat template does not put a video right before the text of a question",
            evidence=[f"rendered {seen[:200]!r}", f"expected {expected[:200]!r}"],
            next_step=_COMPARE,
        )
    return PromptPieces(user_open=user_open, user_close=user_close, timestamp=TIMESTAMP)


def _render(template: str, content: list[dict[str, str]], variables: dict[str, Any]) -> str:
    """Render one user message as transformers does: sandboxed, with its extensions and helpers."""
    import jinja2
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    def fail(message: str) -> None:
        raise jinja2.TemplateError(message)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = lambda value, **options: json.dumps(value, ensure_ascii=False, **options)
    environment.globals["raise_exception"] = fail
    messages = [{"role": "user", "content": content}]
    try:
        rendered = environment.from_string(template).render(
            messages=messages, add_generation_prompt=True, **variables
        )
    except (jinja2.TemplateError, ArithmeticError, LookupError, TypeError, ValueError) as error:
        raise CheckpointError(
            "the chat template cannot be rendered", evidence=[str(error)], next_step=_COMPARE
        ) from error
    return str(rendered)


def _token(value: Any) -> str | None:
    if isinstance(value, dict):
        return _token(Fields(value, "tokenizer_config.json: ").values.get("content"))
    return value if isinstance(value, str) else None
