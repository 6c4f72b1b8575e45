"""The prompt's pieces come from the checkpoint's own template, in non-thinking mode."""

import json
from pathlib import Path

import pytest

from edge.errors import CheckpointError
from export.checkpoint.template import prompt_pieces, read_template
from tests.vocabulary import CHAT_TEMPLATE

OPEN = "<|im_start|>user\n"
CLOSE = "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
THINKING_UNLESS_TOLD = CHAT_TEMPLATE.replace(
    "enable_thinking is defined and enable_thinking", "enable_thinking is not defined or enable_thinking"
)


@pytest.mark.parametrize("template", [CHAT_TEMPLATE, THINKING_UNLESS_TOLD], ids=["default", "asked-for"])
def test_the_assistants_turn_opens_with_an_empty_thought(template: str) -> None:
    pieces = prompt_pieces(template, {})
    assert (pieces.user_open, pieces.user_close) == (OPEN, CLOSE)
    assert pieces.timestamp.format(time=0.0625 + 59.8) == "<59.9 seconds>"


def test_a_default_system_prompt_belongs_to_the_opening() -> None:
    template = "{{- '<|im_start|>system\\nBe brief.<|im_end|>\\n' -}}\n" + CHAT_TEMPLATE
    assert prompt_pieces(template, {}).user_open == f"<|im_start|>system\nBe brief.<|im_end|>\n{OPEN}"


def test_special_tokens_can_be_named() -> None:
    template = "{{- bos_token -}}" + CHAT_TEMPLATE
    assert prompt_pieces(template, {"bos_token": "<s>"}).user_open == f"<s>{OPEN}"


@pytest.mark.parametrize(
    ("template", "evidence"),
    [
        (CHAT_TEMPLATE.replace("<think>\\n\\n</think>", "<think>"), "non-thinking"),
        (CHAT_TEMPLATE.replace("<|video_pad|>", "<video>"), "right before the text"),
        ("{{ raise_exception('no videos here') }}", "no videos here"),
        ("{% if %}", "rendered"),
        ("{{ messages.clear() }}" + CHAT_TEMPLATE, "unsafe"),
        ("{{ cycler.__init__.__globals__.os }}", "unsafe"),
        ("{{ 1 // 0 }}", "division"),
        (CHAT_TEMPLATE.replace("{{- item.text -}}", "{{- item.text * 2 -}}"), "repeat"),
    ],
)
def test_a_template_that_does_otherwise_is_refused(template: str, evidence: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        prompt_pieces(template, {})
    assert evidence in caught.value.render()


def test_templates_are_found_where_releases_keep_them(tmp_path: Path) -> None:
    settings = tmp_path / "tokenizer_config.json"
    settings.write_text(json.dumps({"eos_token": {"content": "E"}, "pad_token": None}))
    with pytest.raises(CheckpointError, match="no chat template"):
        read_template(tmp_path)
    settings.write_text(json.dumps({"chat_template": [{"name": "default", "template": "named"}]}))
    assert read_template(tmp_path) == ("named", {})
    settings.write_text(
        json.dumps({"chat_template": "inside", "eos_token": {"content": "E"}, "pad_token": None})
    )
    assert read_template(tmp_path) == ("inside", {"eos_token": "E"})
    (tmp_path / "chat_template.json").write_text(json.dumps({"chat_template": "beside"}))
    assert read_template(tmp_path)[0] == "beside"
    (tmp_path / "chat_template.jinja").write_text("jinja")
    assert read_template(tmp_path)[0] == "jinja"
