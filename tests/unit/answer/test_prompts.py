"""The words for the model."""

import pytest

from edge.answer.prompts import check_text, default_text, prompt_from, prompts_from, watch_text
from edge.config import PromptSettings, Settings
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


def test_a_watch_names_every_key_of_the_reply_and_is_written_in_the_operators_language() -> None:
    settings = Settings.model_validate(
        {
            "device": {"id": "d"},
            "bundle": {"path": "b"},
            "camera": [{"id": "c", "source": "v.mp4"}],
            "answers": {"language": "German"},
            "watch": [{"id": "gate", "question": "Is the gate open?"}],
        }
    )
    (question,) = prompts_from(settings)[-1].questions
    assert question.text == watch_text("Is the gate open?", language="German")
    assert question.check == check_text("Is the gate open?", language="German")
    for text in (question.text, question.check):
        assert text.endswith("\nWrite all text in German.")
        assert all(f'"{key}"' in text for key in BODIES["watch"].model_fields)
    assert "Write all" not in watch_text("Is the gate open?")
