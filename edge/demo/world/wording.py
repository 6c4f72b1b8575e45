"""Headlines and summaries in plain English, made of events; one way to say each thing, so that a model can be right."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from edge.demo.world.event import Event
from edge.demo.world.scene import Scene
from edge.demo.world.sight import Sight
from edge.demo.world.vocabulary import a, listed
from edge.messages import HEADLINE_CHARS

_QUIET: Final = "Nothing happens."
_ACTIVE: Final = "Activity: {}."


def headline(scene: Scene, happened: Sequence[Event], most: int = HEADLINE_CHARS) -> str:
    """Return one sentence; if telling all takes more than so many characters, one that names who does anything."""
    if not happened:
        return _QUIET
    actors = list(dict.fromkeys(event.sprite for event in happened))
    if len(actors) == 1:
        text = f"{a(scene.sprites[actors[0]].label)} {listed([event.does for event in happened])}."
        if len(text) <= most:
            return _capital(text)
    return _ACTIVE.format(listed([a(scene.sprites[actor].label) for actor in actors]))


def summary(scene: Scene, happened: Sequence[Event], seen: Sequence[Sight]) -> str:
    """Return a few sentences with times.

    Args:
        scene: The scene.
        happened: What happens, in order.
        seen: What can be seen in the first picture; told where nothing happens.
    """
    if not happened:
        if not seen:
            return "Nothing happens. There is nothing to see."
        stand = "stands" if len(seen) == 1 else "stand"
        return f"Nothing happens. {_capital(listed([a(sight.label) for sight in seen]))} {stand} still."
    sentences = []
    met: set[int] = set()
    last = -1
    for event in happened:
        label = scene.sprites[event.sprite].label
        who = "it" if event.sprite == last else f"the {label}" if event.sprite in met else a(label)
        at = f"at {event.start_s:.1f} s"
        sentences.append(f"{at} {who} {event.does}.")
        last = event.sprite
        met |= {event.sprite} if event.other is None else {event.sprite, event.other}
    return " ".join(_capital(sentence) for sentence in sentences)


def inventory(seen: Sequence[Sight]) -> str:
    """Return what there is to see."""
    if not seen:
        return "There is nothing to see."
    verb = "is" if len(seen) == 1 else "are"
    return f"There {verb} {listed([a(sight.label) for sight in seen])}."


def who_came(labels: Sequence[str]) -> str:
    """Return who enters, in their order."""
    if not labels:
        return "Nothing enters."
    return f"{_capital(listed([a(label) for label in labels]))} {'enters' if len(labels) == 1 else 'enter'}."


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]
