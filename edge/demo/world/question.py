"""Questions about a scene, and their answers: where, how many, whether, in what order, when."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from edge.demo.world.event import Event
from edge.demo.world.scene import Scene
from edge.demo.world.truth import Truth, happening, truth
from edge.demo.world.vocabulary import COLOURS, KINDS, a
from edge.demo.world.wording import inventory, who_came

Topic = Literal["place", "count", "watch", "order", "time", "plain"]

_MIDDLE: Final = "in the middle"
_CLEAR: Final = 0.05  # of the picture: nearer to the line between two regions a place has no fair name
_CLEAR_S: Final = 1.0  # of two events nearer in time nobody should be asked which came first
_WATCHED: Final = {
    "people": "a person",
    "vehicles": "a vehicle",
    "animals": "an animal",
    "parcels": "a parcel",
}


@dataclass(frozen=True, slots=True)
class Question:
    """A question with its right answer.

    Attributes:
        topic: What it is about.
        text: The question.
        answer: A sentence.
        seen: Of a watch, what can be seen that bears on it.
    """

    topic: Topic
    text: str
    answer: str
    seen: str = ""


def questions(scene: Scene, rng: np.random.Generator) -> list[tuple[str, str]]:
    """Return questions about a scene and their answers, at least one of every topic that the scene gives rise to.

    Args:
        scene: The scene.
        rng: Chooses what is asked of what is not there.
    """
    return [(question.text, question.answer) for question in asked(truth(scene), rng)]


def asked(true: Truth, rng: np.random.Generator) -> list[Question]:
    """Return questions with their topics."""
    return [*_places(true), *_counts(true), *_watches(true, rng), *_orders(true), *_times(true)]


def _places(true: Truth) -> Iterator[Question]:
    for seen in true.sights():
        x1, y1, x2, y2 = seen.box
        across = _third((x1 + x2) / 2000, ("on the left", _MIDDLE, "on the right"))
        down = _third((y1 + y2) / 2000, ("at the top", _MIDDLE, "at the bottom"))
        if across and down:
            place = (
                _MIDDLE if across == down else ", ".join(name for name in (down, across) if name != _MIDDLE)
            )
            yield Question("place", f"Where is the {seen.label} at the end?", f"The {seen.label} is {place}.")


def _third(at: float, names: tuple[str, str, str]) -> str:
    """Return the name of the third in which a place lies, or "" near the line between two."""
    if min(abs(at - 1 / 3), abs(at - 2 / 3)) < _CLEAR:
        return ""
    return names[min(2, int(at * 3))]


def _counts(true: Truth) -> Iterator[Question]:
    for group, count in true.counts().items():
        verb = "is" if count == 1 else "are"
        name = {"people": "person", "vehicles": "vehicle"}.get(group, group[:-1]) if count == 1 else group
        yield Question("count", f"How many {group} are there at the end?", f"There {verb} {count} {name}.")


def _watches(true: Truth, rng: np.random.Generator) -> Iterator[Question]:
    """Ask what a watchman would: about what is there, and as often about what is not."""
    counts = true.counts()
    for group, name in _WATCHED.items():
        said = "Yes." if counts[group] else "No."
        yield Question("watch", f"Is there {name} at the end?", said, inventory(true.sights()))
    yield from _comings(true, (*sorted(_firsts(true, "enter")), _absent(true.scene, rng)))
    yield Question("watch", "Does anything happen?", "Yes." if true.events else "No.", happening(true))


def comings(true: Truth, rng: np.random.Generator, count: int) -> list[Question]:
    """Ask so often of somebody who comes, where anybody does, and as often of somebody else whether they come."""
    labels = sorted(_firsts(true, "enter"))
    came = [labels[int(rng.integers(len(labels)))] for _ in range(count)] if labels else []
    return list(_comings(true, [*came, *(_absent(true.scene, rng) for _ in range(count))]))


def _comings(true: Truth, labels: Iterable[str]) -> Iterator[Question]:
    entered = _firsts(true, "enter")
    came = who_came(sorted(entered, key=lambda label: (entered[label].start_s, entered[label].end_s)))
    for label in labels:
        yield Question("watch", f"Does {a(label)} enter?", "Yes." if label in entered else "No.", came)


def _absent(scene: Scene, rng: np.random.Generator) -> str:
    """Return the label of something that is not in the scene; half the time something like it is."""
    labels = {sprite.label for sprite in scene.sprites}
    like = scene.sprites[int(rng.random() * len(scene.sprites))] if scene.sprites else None
    while True:
        kind = like.kind if like and rng.random() < 0.25 else KINDS[int(rng.random() * len(KINDS))]
        colour = like.colour if like and rng.random() < 0.25 else COLOURS[int(rng.random() * len(COLOURS))]
        if f"{colour} {kind}" not in labels:
            return f"{colour} {kind}"


def _orders(true: Truth) -> Iterator[Question]:
    first = _firsts(true, "enter")
    labels = list(first)
    for number, one in enumerate(labels):
        for other in labels[number + 1 :]:
            if abs(first[one].start_s - first[other].start_s) >= _CLEAR_S:
                early = min(one, other, key=lambda label: first[label].start_s)
                yield Question(
                    "order", f"What came first, the {one} or the {other}?", f"The {early} came first."
                )


def _firsts(true: Truth, kind: str) -> dict[str, Event]:
    """Return the first event of a kind for each sprite, by label, in the order of the scene."""
    found: dict[str, Event] = {}
    for sprite in range(len(true.scene.sprites)):
        mine = [event for event in true.events if event.sprite == sprite and event.kind == kind]
        if mine:
            found[true.scene.sprites[sprite].label] = mine[0]
    return found


def _times(true: Truth) -> Iterator[Question]:
    for kind, verb in (("enter", "enter"), ("stop", "stop"), ("leave", "leave")):
        for label, event in _firsts(true, kind).items():
            yield Question("time", f"When does the {label} {verb}?", f"At {event.start_s:.1f} s.")
