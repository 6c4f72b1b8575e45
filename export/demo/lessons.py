"""What a clip is asked in training, and what is right to say: the shipped prompts, variations of them, and questions."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from edge.answer.prompts import default_text, prompt_from
from edge.config import PromptSettings
from edge.records import Size
from export.checkpoint.template import TIMESTAMP

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
SHORT: Final = {"summary": "Summary in JSON.", "spatial": "Boxes in JSON.", "ask": "Answer in JSON."}
"""What stands for a whole prompt with its form while the model learns to see: a tenth of the tokens."""
PLAIN: Final = ("What happened in this video?", "Tell me what you see.", "Describe the video in plain words.")
"""Asked without a form; the answer is the summary's text."""
_DEFAULT_SHARE: Final = 0.6  # of the full prompts that are the shipped ones to the letter


class World(Protocol):
    """The synthetic world, `edge.demo.world`; a test has a smaller one."""

    CELL_CLASSES: Sequence[int]

    def draw_scene(self, seed: int, stage: str, *, seconds: float, fps: float, size: Size, split: str) -> Any:
        """Draw what will happen in a clip."""

    def render(self, scene: Any, tick: int) -> NDArray[np.uint8]:
        """Return one picture, shape (H, W, 3)."""

    def truth(self, scene: Any) -> Any:
        """Return what happens in it."""

    def answer(self, truth: Any, kind: str) -> dict[str, Any]:
        """Return the body that is right to say."""

    def questions(self, scene: Any, rng: np.random.Generator) -> list[tuple[str, str]]:
        """Return questions and what is right to say."""


@dataclass(frozen=True, slots=True)
class Lesson:
    """A prompt as the engine is given it, and the text that it should write."""

    prompt: str
    answer: str


def prompt_text(kind: str, words: str) -> str:
    """Return what the engine is asked: somebody's words and the reply's form."""
    return prompt_from(PromptSettings(name=kind, kind=kind, text=words)).text


def body_text(body: dict[str, Any]) -> str:
    """Return a body as the grammar spells it: compact, in the order of the schema, times with one decimal."""
    return json.dumps(body, ensure_ascii=False, separators=(",", ":"))


def lessons(
    world: World, scene: Any, rng: np.random.Generator, *, count: int, full: float
) -> tuple[Lesson, ...]:
    """Choose what a clip is asked: its summary, where things are, and questions.

    Args:
        world: Whose clip it is.
        scene: The clip.
        rng: Of the choice.
        count: How many, >= 2; the summary and the boxes are always among them.
        full: Share of the prompts that are as long as in use.
    """
    truth = world.truth(scene)
    bodies = {kind: world.answer(truth, kind) for kind in ("summary", "spatial")}
    chosen = [Lesson(_prompt(kind, rng, full), body_text(body)) for kind, body in bodies.items()]
    asked = list(world.questions(scene, rng))
    asked.append((str(rng.choice(PLAIN)), str(bodies["summary"]["summary"])))
    for index in rng.permutation(len(asked))[: count - len(chosen)]:
        question, said = asked[int(index)]
        if rng.random() < 0.5:
            chosen.append(Lesson(question, said))
        elif rng.random() < full:
            chosen.append(Lesson(prompt_text("ask", question), body_text({"text": said})))
        else:
            chosen.append(Lesson(f"{question} {SHORT['ask']}", body_text({"text": said})))
    return tuple(chosen)


def texts(world: World, stage: str, *, clips: int, seed: int) -> Iterator[str]:
    """Yield the words of many clips, for the tokenizer: prompts, answers and timestamps.

    Every prompt stands as often as an answer does, so that the shipped words become single tokens.
    """
    rng = np.random.default_rng(seed)
    for index in range(clips):
        scene = world.draw_scene(
            index, stage, seconds=float(rng.integers(2, 17)), fps=8.0, size=Size(96, 128), split="train"
        )
        for lesson in lessons(world, scene, rng, count=4, full=0.5):
            yield lesson.prompt
            yield lesson.answer
        yield TIMESTAMP.format(time=rng.uniform(0.0, 60.0))


def _prompt(kind: str, rng: np.random.Generator, full: float) -> str:
    if rng.random() >= full:
        return SHORT[kind]
    shipped = rng.random() < _DEFAULT_SHARE
    return prompt_text(kind, WORDS[kind][0] if shipped else str(rng.choice(WORDS[kind][1:])))
