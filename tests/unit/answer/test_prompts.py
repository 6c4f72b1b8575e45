"""The words for the model."""

import pytest

from edge.answer.prompts import default_text, prompt_from
from edge.config import PromptSettings
from edge.messages import BODIES


@pytest.mark.parametrize("kind", ["summary", "spatial"])
def test_empty_words_take_the_default(kind: str) -> None:
    prompt = prompt_from(PromptSettings.model_validate({"name": "x", "kind": kind, "text": "  "}))
    assert prompt.text.startswith(default_text(kind))
    assert (prompt.name, prompt.kind, prompt.max_tokens) == ("x", kind, 320)


@pytest.mark.parametrize("kind", sorted(BODIES.keys() - {"watch"}))
def test_own_words_come_first_and_every_key_of_the_reply_is_named(kind: str) -> None:
    prompt = prompt_from(
        PromptSettings.model_validate({"name": "x", "kind": kind, "text": "Is the gate open?"})
    )
    assert prompt.text.startswith("Is the gate open?\n")
    assert default_text(kind) not in prompt.text
    for key in BODIES[kind].model_fields:
        assert f'"{key}"' in prompt.text
