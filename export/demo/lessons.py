"""What a clip is asked in training, and what is right to say: the shipped prompts, variations of them, and questions."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from edge.answer.prompts import check_text, default_text, prompt_from, watch_text
from edge.config import PromptSettings
from edge.demo.world import Question, Stage, Truth, answer, asked, comings, draw_scene, truth
from export.checkpoint.template import TIMESTAMP
from export.demo.labels import BOX_STEP

WORDS: Final = {
    "summary": (
        default_text("summary"),
        "What happens in this video?",
        "Describe what happened, in order, with the time of each event.",
        "Who comes, who goes, and when? If nothing happens, say so.",
    ),
    "spatial": (
        default_text("spatial"),
        "Where is everything in the last picture?",
        "List the objects with their boxes, and how they stand to each other.",
    ),
}
"""Words of the two kinds of prompt; the first are the shipped ones."""
SHORT: Final = {
    "summary": "Summary in JSON.",
    "spatial": "Boxes in JSON.",
    "ask": "Answer in JSON.",
    "watch": "Yes or no in JSON.",
}
"""What stands for a whole prompt with its form while the model learns to see: a tenth of the tokens."""
PLAIN: Final = ("What happened in this video?", "Tell me what you see.", default_text("ask"))
"""Asked without a form, or with that of a question; the answer is the summary's text."""
_DEFAULT_SHARE: Final = 0.6  # of the full prompts that are the shipped ones to the letter
_PLAIN_TOPIC: Final = "plain"
_WATCH_TOPIC: Final = "watch"
SIDES: Final = tuple(str(side) for side in range(0, 1001, BOX_STEP))
"""Sides of boxes as they are written."""
NUMBERS: Final = (*(f"{tenths / 10:.1f}" for tenths in range(600)), *SIDES)
"""Of seconds and of sides of boxes, as they are written; each is one token."""
_VERDICTS: Final = {"Yes.": "yes", "No.": "no"}
_WATCH_SHARE: Final = 0.7  # of the questions that can be answered so, asked as a watch asks them
_FIRST_SHARE: Final = 0.7  # of these that are the first question; the rest is the second look
_SHOWN_SHARE: Final = 0.5  # of these come after the key frame
_MUCH: Final = 4  # lessons; a clip with so many has more of what a watch asks on top
MORE_WATCHED: Final = 3
"""Of these so many of any kind: the verdict is one word, and has to be read in what was seen."""
MORE_COMINGS: Final = 2
"""And so many about who came, and as many about who did not: to find a name among others is hard to learn."""
_MORE_FULL: Final = 3  # power of the share of these that are as long as in use
_CAME_SHARE: Final = 0.4  # of what a watch asks, is who came
_CAME: Final = ("enter? Yes.", "enter? No.")
STAGES: Final[tuple[Stage, ...]] = ("a", "b", "c")


@dataclass(frozen=True, slots=True)
class Lesson:
    """A prompt as the engine is given it, the text that it should write, and whether the key frame is shown with it."""

    prompt: str
    answer: str
    shown: bool = False


def prompt_text(kind: str, words: str) -> str:
    """Return what the engine is asked: somebody's words and the reply's form."""
    return prompt_from(PromptSettings(name=kind, kind=kind, text=words)).text


def body_text(body: dict[str, Any]) -> str:
    """Return a body as the grammar spells it: compact, in the order of the schema, times with one decimal."""
    return json.dumps(body, ensure_ascii=False, separators=(",", ":"))


def lessons(
    true: Truth, rng: np.random.Generator, *, count: int, full: float, still: int | None = None
) -> tuple[Lesson, ...]:
    """Choose what a clip is asked: its summary, where things are, and questions of different topics.

    Args:
        true: What is true of it.
        rng: Of the choice.
        count: How many; from 4 on the summary and the boxes are always among them, and more of what a watch asks come on top.
        full: Share of the prompts that are as long as in use.
        still: Tick of the key frame that goes with what the service shows one with; None: there is none.
    """
    pool = [
        Lesson(_prompt("summary", rng, full), body_text(answer(true, "summary"))),
        where(true, still, rng, full=full),
    ]
    for asked_for in _questions(true, rng, max(2, count - len(pool))):
        question, said = asked_for.text, asked_for.answer
        if said in _VERDICTS and rng.random() < _WATCH_SHARE:
            pool.append(_watched(asked_for, rng, full, still))
        elif rng.random() < 0.5:
            pool.append(Lesson(question, said))
        elif rng.random() < full:
            pool.append(Lesson(prompt_text("ask", question), body_text({"text": said})))
        else:
            pool.append(Lesson(f"{question} {SHORT['ask']}", body_text({"text": said})))
    chosen = [pool[int(place)] for place in rng.permutation(len(pool))[:count]]
    if count >= _MUCH:
        watches = list(_by_topic(true, rng)[_WATCH_TOPIC].values())
        for place in rng.permutation(len(watches))[:MORE_WATCHED]:
            among = watches[int(place)]
            chosen.append(_watched(among[int(rng.integers(len(among)))], rng, full**_MORE_FULL, still))
        chosen += [_watched(each, rng, full**_MORE_FULL, still) for each in comings(true, rng, MORE_COMINGS)]
    return tuple(chosen)


def _watched(question: Question, rng: np.random.Generator, full: float, still: int | None) -> Lesson:
    """Ask as a watch asks, with the key frame or, where it does not matter, without."""
    text = f"{question.text} {SHORT['watch']}"
    if rng.random() < full:
        text = watch_text(question.text) if rng.random() < _FIRST_SHARE else check_text(question.text)
    body = {"seen": question.seen, "answer": _VERDICTS[question.answer]}
    return Lesson(text, body_text(body), still is not None and rng.random() < _SHOWN_SHARE)


def where(true: Truth, still: int | None, rng: np.random.Generator, *, full: float) -> Lesson:
    """Ask where all is, at the key frame's tick or, without one, at the end; arguments as in `lessons`."""
    body = answer(true, "spatial", tick=-1 if still is None else still)
    return Lesson(_prompt("spatial", rng, full), body_text(_coarse(body)), still is not None)


def texts(*, clips: int, seed: int) -> Iterator[str]:
    """Yield the words of many clips of all stages, for the tokenizer: prompts, answers, timestamps and numbers.

    A shipped prompt stands as often as an answer does, so its words become single tokens.
    """
    rng = np.random.default_rng(seed)
    for index in range(clips):
        scene = draw_scene(index, STAGES[index % len(STAGES)])
        for lesson in lessons(truth(scene), rng, count=4, full=0.5):
            yield lesson.prompt
            yield lesson.answer
        yield TIMESTAMP.format(time=rng.uniform(0.0, 60.0))
    yield from NUMBERS


def _prompt(kind: str, rng: np.random.Generator, full: float) -> str:
    if rng.random() >= full:
        return SHORT[kind]
    shipped = rng.random() < _DEFAULT_SHARE
    return prompt_text(kind, WORDS[kind][0] if shipped else str(rng.choice(WORDS[kind][1:])))


def _coarse(body: dict[str, Any]) -> dict[str, Any]:
    """Return a body with the sides of its boxes in fiftieths of the picture: two pixels are no more than that.

    A finer digit could only be guessed, and guessing it would be most of what a box teaches.
    """
    for each in body.get("objects", ()):
        each["bbox_2d"] = [BOX_STEP * round(side / BOX_STEP) for side in each["bbox_2d"]]
    return body


def _questions(true: Truth, rng: np.random.Generator, count: int) -> Iterator[Question]:
    """Yield questions, each topic as often as the others, and in it each answer.

    Most questions that can be asked are counts, and most of these are of what is not there: whoever said so always was right
    four times in five, and learnt nothing else.
    """
    by_topic = _by_topic(true, rng)
    topics = [_PLAIN_TOPIC, _WATCH_TOPIC, *by_topic]  # watched for twice as often
    for place in rng.permutation(len(topics))[:count]:
        topic = topics[int(place)]
        if topic == _PLAIN_TOPIC:
            yield Question("plain", str(rng.choice(PLAIN)), true.summary)
            continue
        answers = list(by_topic[topic])
        said = answers[int(rng.integers(len(answers)))]
        if topic == _WATCH_TOPIC and rng.random() < _CAME_SHARE:
            said = _CAME[0]
        # Who came and who did not are asked side by side: nothing but the name tells the two questions apart.
        for each in _CAME if said in _CAME else (said,):
            if each not in by_topic[topic]:
                continue  # nobody came
            among = by_topic[topic][each]
            yield among[int(rng.integers(len(among)))]


def _by_topic(true: Truth, rng: np.random.Generator) -> dict[str, dict[str, list[Question]]]:
    """Return what can be asked by topic, and in each by what is to be said."""
    found: dict[str, dict[str, list[Question]]] = {}
    for question in asked(true, rng):
        found.setdefault(question.topic, {}).setdefault(_said(question), []).append(question)
    return found


def _said(question: Question) -> str:
    """Return what a question's answer is, but for the name of what was asked about: the number, for a count.

    Of a watch's questions it is the last word, which tells what is watched for, with yes or no: else few were about somebody
    who does not come, and "something came" would be as good a reply as "this one came".
    """
    if question.topic == _WATCH_TOPIC:
        return f"{question.text.split()[-1]} {question.answer}"
    numbers = [word for word in question.answer.split() if word.isdigit()]
    return numbers[0] if question.topic == "count" and numbers else question.answer
