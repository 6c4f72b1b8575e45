"""The words that the model is given: one default question per kind, and the form in which it must reply.

They are made for Qwen3.5-0.8B without thinking: short sentences, the JSON spelt out, the model's own grounding words
(``bbox_2d``, coordinates on 0..1000), and leave to say that there is nothing to report.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from edge.answer.given import Given
from edge.config import AnswerSettings, PromptSettings, Settings, WatchSettings
from edge.messages import MAX_EVENTS, MAX_OBJECTS, MAX_RELATIONS
from edge.records import Prompt, Question

_WORDS = {
    "summary": (
        "The time in seconds stands before each moment of this video. What happens in it? Look for people, vehicles "
        "and animals: what they do, where they come from and where they go. Say only what you can see. "
        "If nothing happens, say so and list no events."
    ),
    "spatial": (
        "Where are the people, vehicles, animals and other important objects in the last picture of this video? "
        "List each object once, with its box, and say what they do with each other. "
        "If you see none of them, say so and list no objects."
    ),
    "watch": "",
    "ask": "What do you see in this video?",
}
_PLACES = frozenset({"spatial", "watch"})  # kinds that are shown the key frame
_PROSE = frozenset({"summary", "ask"})

_SEEN = "Say only what you can see."
_FORM = {
    "summary": (
        'Reply in JSON: {"headline": one short sentence, "summary": two or three sentences, '
        '"events": [{"what": a few words, "start": seconds, "end": seconds}], '
        '"counts": {"people": a number, "vehicles": a number, "animals": a number}}. '
        f"Events in order, at most {MAX_EVENTS}, with times as in the timestamps. Count each one once."
    ),
    "spatial": (
        'Reply in JSON: {"headline": one short sentence, '
        '"objects": [{"label": a few words, "bbox_2d": [x1, y1, x2, y2]}], '
        '"relations": [{"subject": a label, "relation": such as "behind" or "carrying", "object": a label}]}. '
        "Coordinates are whole numbers from 0 to 1000. Leave out what boxes show, such as left of. "
        f"At most {MAX_OBJECTS} objects and {MAX_RELATIONS} relations."
    ),
    "watch": (
        'Reply in JSON: {"seen": one short sentence, "answer": "yes", "no" or "unsure"}. '
        "Say yes only if you see it, unsure if you cannot tell."
    ),
    "ask": f'Reply in JSON: {{"text": your answer in one to three sentences}}. {_SEEN}',
}

_AGAIN = "Look again, carefully, at every picture. Is it really so?"


def default_text(kind: str) -> str:
    """Return the question that stands for an empty ``text`` in the configuration.

    Args:
        kind: A key of `edge.messages.BODIES`; a watch has no words but its questions.
    """
    return _WORDS[kind]


def watch_text(question: str, *, words: str = "", language: str = "") -> str:
    """Return what the model is asked for one question of a watch.

    Args:
        question: The operator's, such as "Is a parcel at the door?".
        words: What the operator wants said before each question, such as what the camera looks at.
        language: In which the model should write what it sees; empty: as it likes.
    """
    return "\n".join(
        part for part in (words.strip(), question.strip(), _FORM["watch"], _in(language)) if part
    )


def check_text(question: str, *, words: str = "", language: str = "") -> str:
    """Return what the model is asked a second time, when its first answer was yes; as `watch_text`."""
    return watch_text(f"{_AGAIN} {question.strip()}", words=words, language=language)


def _in(language: str) -> str:
    return f"Write all text in {language.strip()}." if language.strip() else ""


def prompt_from(
    settings: PromptSettings, answers: AnswerSettings | None = None, given: Given | None = None
) -> Prompt:
    """Make the prompt that is given to the model: the operator's words or the default ones, then the reply's form.

    The form is always added: the grammar forces it anyway, and a model that knows it writes better under it. Only
    summaries and free text are ever sampled: the penalties that go with it would bend the digits of a box, and a yes or
    no is a choice, not a matter of style.

    Args:
        settings: The prompt; of kind watch it gets its questions from `prompts_from`.
        answers: Language, key frame and sampling; None: as they are without any configuration, and no key frame.
        given: The schema that the asker of an ``ask`` wants the answer in.
    """
    manner = answers or AnswerSettings(key_frame_tokens=0)
    words = settings.text.strip() or default_text(settings.kind)
    form = _FORM[settings.kind] if given is None else f"{given.form} {_SEEN}"
    parts = (words, form, _in(manner.language))
    return Prompt(
        name=settings.name,
        kind=settings.kind,
        text="" if settings.kind == "watch" else "\n".join(part for part in parts if part),
        max_tokens=settings.max_tokens,
        still_tokens=manner.key_frame_tokens if settings.kind in _PLACES else 0,
        sampled=manner.sampling == "recommended" and settings.kind in _PROSE and given is None,
        schema="" if given is None else given.text,
    )


def prompts_from(settings: Settings) -> list[Prompt]:
    """Make all prompts of a configuration, the watch with its questions among them."""
    made = []
    for each in settings.prompts:
        prompt = prompt_from(each, settings.answers)
        if each.kind == "watch":
            prompt = replace(
                prompt,
                questions=tuple(
                    _question(rule, each.text, settings.answers.language) for rule in settings.watch
                ),
            )
        made.append(prompt)
    return made


def for_camera(prompts: Sequence[Prompt], camera: str) -> tuple[Prompt, ...]:
    """Return what is asked of a camera's clips: a watch keeps the questions that are meant for it."""
    return tuple(
        replace(prompt, questions=mine) if prompt.kind == "watch" else prompt
        for prompt in prompts
        if (mine := tuple(each for each in prompt.questions if not each.cameras or camera in each.cameras))
        or prompt.kind != "watch"
    )


def _question(rule: WatchSettings, words: str, language: str) -> Question:
    return Question(
        rule=rule.id,
        question=rule.question.strip(),
        text=watch_text(rule.question, words=words, language=language),
        check=check_text(rule.question, words=words, language=language) if rule.check else "",
        cameras=rule.cameras,
    )
