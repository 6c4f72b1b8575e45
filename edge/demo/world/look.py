"""How a newcomer to a scene looks and how big it is, and who comes together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edge.demo.world.chance import Chance
from edge.demo.world.event import EventKind
from edge.demo.world.place import extent
from edge.demo.world.scene import Key, Scene, Sprite
from edge.demo.world.vocabulary import COLOURS, held_out


@dataclass(frozen=True, slots=True)
class Look:
    """A kind in a colour with a motion, and its size.

    Attributes:
        kind: One of `vocabulary.KINDS`.
        colour: One of `vocabulary.COLOURS`.
        motion: One of `vocabulary.MOTIONS`.
        side: As in `Sprite`.
        half: Half of its width and of its height, as shares of the picture's.
    """

    kind: str
    colour: str
    motion: str
    side: float
    half: tuple[float, float]

    @property
    def label(self) -> str:
        """Its name."""
        return f"{self.colour} {self.kind}"

    @property
    def novel(self) -> bool:
        """Whether it never occurs in training."""
        return held_out(self.kind, self.colour, self.motion)

    def sprite(self, path: Sequence[Key], *, faces_left: bool = False) -> Sprite:
        """Return it on a path."""
        return Sprite(self.kind, self.colour, self.motion, self.side, tuple(path), faces_left)


@dataclass(frozen=True, slots=True)
class Troupe:
    """Sprites that come together, from the back to the front.

    Attributes:
        sprites: They.
        shows: An event that their story must come to; None where any will do.
    """

    sprites: tuple[Sprite, ...]
    shows: EventKind | None = None


def choose_look(
    scene: Scene,
    chance: Chance,
    kinds: Sequence[str],
    motions: Sequence[str],
    *,
    side: float | None = None,
) -> Look | None:
    """Choose how a newcomer looks.

    Args:
        scene: The scene.
        chance: Where the choice comes from.
        kinds: What it may be.
        motions: Where it may come from.
        side: Its size; None chooses one.

    Returns:
        The look; None where chance hit a name that is taken, or a combination held out of training.
    """
    kind, colour, motion = chance.choice(kinds), chance.choice(COLOURS), chance.choice(motions)
    size = chance.between(0.26, 0.4) if side is None else side
    width, height = extent(kind, size, scene.size)
    half = width / scene.size.width / 2, height / scene.size.height / 2
    look = Look(kind, colour, motion, size, half)
    names = {sprite.label for sprite in scene.sprites}
    return None if look.label in names or (look.novel and scene.split == "train") else look
