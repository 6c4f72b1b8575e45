"""The truth about a scene: what happens when, what is where, how many, in words and as the model should write it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.demo.world import sight
from edge.demo.world.event import Event, events
from edge.demo.world.place import places
from edge.demo.world.scene import Scene
from edge.demo.world.sight import Sight, Standing
from edge.demo.world.vocabulary import GROUPS, group_of
from edge.demo.world.wording import headline, inventory, summary
from edge.messages import MAX_OBJECTS, MAX_RELATIONS, SEEN_CHARS, CountsBody


@dataclass(frozen=True, slots=True)
class Truth:
    """What is true of a scene.

    Attributes:
        scene: The scene.
        events: What happens, in order of time; empty where nothing does.
        headline: One sentence.
        summary: A few sentences with times.
    """

    scene: Scene
    events: tuple[Event, ...]
    headline: str
    summary: str

    def sights(self, tick: int = -1) -> tuple[Sight, ...]:
        """Return what can be seen in a picture, with boxes; the last picture unless another is named."""
        return sight.sights(self.scene, tick)

    def relations(self, tick: int = -1) -> tuple[Standing, ...]:
        """Return how what can be seen stands to each other."""
        return sight.standings(self.scene, tick, self.sights(tick))

    def counts(self, tick: int = -1) -> dict[str, int]:
        """Return how many can be seen of each of `vocabulary.GROUPS`."""
        found = dict.fromkeys(GROUPS, 0)
        for seen in self.sights(tick):
            found[group_of(self.scene.sprites[seen.sprite].kind)] += 1
        return found

    def counts_ever(self) -> dict[str, int]:
        """Return how many different ones can be seen at some time of each of `vocabulary.GROUPS`."""
        found = dict.fromkeys(GROUPS, 0)
        for sprite, within in zip(self.scene.sprites, places(self.scene).within, strict=True):
            found[group_of(sprite.kind)] += bool(within.max() >= sight.LISTED)
        return found

    def cells(self, tick: int, *, cell: int = sight.CELL) -> NDArray[np.int8]:
        """Return what lies in each cell of a picture: see `sight.cells`."""
        return sight.cells(self.scene, tick, cell=cell)


def truth(scene: Scene) -> Truth:
    """Work out the truth about a scene."""
    return _told(scene, events(scene))


def retold(true: Truth, happened: tuple[Event, ...]) -> Truth:
    """Return the truth about a scene with its events told differently, in sentences as well."""
    return _told(true.scene, happened)


def _told(scene: Scene, happened: tuple[Event, ...]) -> Truth:
    seen = () if happened else sight.sights(scene, 0)
    return Truth(scene, happened, headline(scene, happened), summary(scene, happened, seen))


def happening(true: Truth) -> str:
    """Return what happens, in so few words as a watch may use."""
    return headline(true.scene, true.events, SEEN_CHARS)


def answer(true: Truth, kind: str, *, tick: int = -1) -> dict[str, Any]:
    """Return the truth as the model should write it: a body of `edge.messages.BODIES`.

    Args:
        true: The truth.
        kind: ``summary``: of the clip. ``spatial``: of one picture. ``watch``: whether anything happens.
            ``ask``: what is in it, in one line.
        tick: Of which picture, where one is told of; the last one unless another is named.
    """
    if kind == "summary":
        happened = [{"what": e.what, "start": e.start_s, "end": e.end_s} for e in true.events]
        ever = true.counts_ever()
        counts = {name: ever[name] for name in CountsBody.model_fields}
        return {"headline": true.headline, "summary": true.summary, "events": happened, "counts": counts}
    if kind == "spatial":
        seen = true.sights(tick)
        return {
            "headline": inventory(seen),
            "objects": [{"label": s.label, "bbox_2d": list(s.box)} for s in seen[:MAX_OBJECTS]],
            "relations": [
                {"subject": r.subject, "relation": r.relation, "object": r.object}
                for r in [each for each in true.relations(tick) if each.relation not in sight.SHOWN][
                    :MAX_RELATIONS
                ]
            ],
        }
    if kind == "watch":
        return {"seen": happening(true), "answer": "yes" if true.events else "no"}
    if kind == "ask":
        return {"text": true.summary}
    raise ValueError(f"there is no kind of answer called {kind}")
