"""The words that the model is given: one default question per kind, and the form in which it must reply.

They are made for Qwen3.5-0.8B without thinking: short sentences, the JSON spelt out, the model's own grounding words
(``bbox_2d``, coordinates on 0..1000), and leave to say that there is nothing to report.
"""

from __future__ import annotations

from edge.config import PromptSettings
from edge.messages import MAX_EVENTS, MAX_OBJECTS, MAX_RELATIONS
from edge.records import Prompt

_WORDS = {
    "summary": (
        "The time in seconds stands before each moment of this video. What happens in it? Look for people, vehicles "
        "and animals: what they do, where they come from and where they go. Say only what you can see. "
        "If nothing happens, say so and list no events."
    ),
    "spatial": (
        "Where are the people, vehicles, animals and other important objects in the last picture of this video? "
        "List each object once, with its box, and say how they stand to each other. "
        "If you see none of them, say so and list no objects."
    ),
    "ask": "What do you see in this video?",
}

_FORM = {
    "summary": (
        'Reply in JSON: {"headline": one short sentence, "summary": two or three sentences, '
        '"events": [{"what": a few words, "start": seconds, "end": seconds}]}. '
        f"Events in order, at most {MAX_EVENTS}, with times as in the timestamps."
    ),
    "spatial": (
        'Reply in JSON: {"headline": one short sentence, '
        '"objects": [{"label": a few words, "bbox_2d": [x1, y1, x2, y2]}], '
        '"relations": [{"subject": a label, "relation": such as "left of", "object": a label}]}. '
        f"Coordinates are whole numbers from 0 to 1000. At most {MAX_OBJECTS} objects and {MAX_RELATIONS} relations."
    ),
    "ask": 'Reply in JSON: {"text": your answer in one to three sentences}. Say only what you can see.',
}


def default_text(kind: str) -> str:
    """Return the question that stands for an empty ``text`` in the configuration.

    Args:
        kind: ``summary``, ``spatial`` or ``ask``.
    """
    return _WORDS[kind]


def prompt_from(settings: PromptSettings) -> Prompt:
    """Make the prompt that is given to the model: the operator's words or the default ones, then the reply's form.

    The form is always added: the grammar forces it anyway, and a model that knows it writes better under it.
    """
    words = settings.text.strip() or default_text(settings.kind)
    return Prompt(
        name=settings.name,
        kind=settings.kind,
        text=f"{words}\n{_FORM[settings.kind]}",
        max_tokens=settings.max_tokens,
    )
