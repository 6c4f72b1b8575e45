"""What `edge demo` shows: the video inside the package, or a fresh one, and what is true of each clip of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from edge.demo.world import Event, Scene, Sight, Stage, draw_scene, encode, truth
from edge.records import Size
from edge.share import demo_clip

SECONDS: Final = 60
"""Length of the videos."""
HEIGHT: Final = 240
WIDTH: Final = 320
FPS: Final = 10  # not the service's 8: a camera's clock is never the grid's
STAGE: Final[Stage] = "b"
SEED: Final = 496  # a parcel comes and stays; later somebody comes, stands there and goes
CRF: Final = 28  # as thrifty as a camera
_SLACK_S: Final = 1e-6


@dataclass(frozen=True, slots=True)
class Video:
    """A video of the world.

    Attributes:
        path: The file.
        scene: What it shows.
    """

    path: Path
    scene: Scene

    def clip(self, number: int, seconds: float, at_s: float | None = None) -> Shown:
        """Return what is true of one of the clips into which it is cut.

        Args:
            number: Of the clip, from 0.
            seconds: Length of each.
            at_s: Moment of the clip at which things are where they are, its key frame's; None: its last picture.
        """
        begin, end = number * seconds, min((number + 1) * seconds, self.scene.seconds)
        true = truth(self.scene)
        within = tuple(
            event for event in true.events if event.start_s < end - _SLACK_S and event.end_s >= begin
        )
        last = max(0, round(end * self.scene.fps) - 1)
        tick = last if at_s is None else min(last, round((begin + at_s) * self.scene.fps))
        return Shown(begin, within, true.sights(tick))


@dataclass(frozen=True, slots=True)
class Shown:
    """What is true of one clip.

    Attributes:
        begin_s: Where in the video it begins.
        events: What happens in it, also what began before or is not over; times are the video's.
        sights: What can be seen at the moment that was asked for.
    """

    begin_s: float
    events: tuple[Event, ...]
    sights: tuple[Sight, ...]

    def lines(self, prompt: str) -> list[str]:
        """Return what concerns a prompt as a person reads it; times count from the clip's beginning, as in answers."""
        if prompt == "spatial":
            return [f"{sight.label} at {_box(sight)}" for sight in self.sights] or ["nothing to see"]
        return [
            f"{max(0.0, event.start_s - self.begin_s):.1f} to {event.end_s - self.begin_s:.1f} s: {event.what}"
            for event in self.events
        ] or ["nothing happens"]


def _box(sight: Sight) -> str:
    return f"({', '.join(f'{side / 1000:.2f}' for side in sight.box)})"


def packaged(*, seconds: float = SECONDS) -> Scene:
    """Return what the video inside the package shows; another length is another story."""
    return _scene(SEED, seconds)


def video(directory: Path, seed: int | None = None) -> Video:
    """Return the video inside the package, or render the world of another seed.

    Args:
        directory: Where to render it.
        seed: Of the world; None takes the package's video.
    """
    if seed is None:
        return Video(demo_clip(), packaged())
    scene = _scene(seed, SECONDS)
    return Video(encode(scene, directory / "world.mp4", crf=CRF), scene)


def _scene(seed: int, seconds: float) -> Scene:
    return draw_scene(seed, STAGE, seconds=seconds, fps=FPS, size=Size(HEIGHT, WIDTH))
