"""Which recipe: the fastest whose answers stay close enough to those of the float32 weights, measured on clips.

The yardstick is a float32 bundle of the same weights, run by `edge.model` itself: no torch is needed. It answers a question
about each clip, greedily; every candidate is led along those answers, and its logits are compared before each token, behind a
prefill and a rounded cache of its own. A candidate is close enough when either

- its mean KL is at most a limit: nobody will notice it, or
- its logit error is at most `FACTOR` times that of `FALLBACK`, the most exact recipe there is: nothing would be gained.

Where none is, `FALLBACK` is taken, whatever it loses, and that is said.
"""

from __future__ import annotations

import gc
import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from edge.errors import ConfigError, EdgeError
from edge.model.bundle import Bundle
from edge.model.engine import Engine
from edge.model.heap import trim
from export import parity
from export.bundle import CHOICE, Aside
from export.calibration import Clip, questions
from export.candidate import own_logits, teacher_logits
from export.checkpoint.source import LOCAL, open_checkpoint
from export.convert import Converted, Progress, convert
from export.recipes import Recipe, load_recipe

RANKED: Final = ("w8a8-int4", "w8a8", "int4")
"""By the seconds of a whole job, the fastest first, as measured (README: how fast) and as counted (`tests.bench.count`)."""
FALLBACK: Final = "int8"
"""Eight bits in blocks of 128: what every other recipe is held to, and what is left where none will do."""
MAX_KL: Final = 0.05
"""Nats. Four-bit weights of the usual kinds cost a model of eight billion parameters 0.03 to 0.07 (llama.cpp)."""
FACTOR: Final = 1.5
ANSWER: Final = 24
"""Tokens of each clip's answer along which logits are compared."""
SCHEMA: Final = "edgeclip.choice/1"
_EXACT: Final = "fp32"
_ROOM: Final = 1.2  # disk space wanted, in sizes of the float32 weights

Stage = Callable[[str], AbstractContextManager[Progress]]
"""Opens a piece of work by its name, and yields who hears of its progress."""


@dataclass(frozen=True, slots=True)
class Loss:
    """What a recipe loses against float32, over the positions of all clips.

    Attributes:
        recipe: Its name.
        positions: How many were compared.
        error: Root mean square of the differences of logits over that of the logits.
        kl_mean: Mean KL(float32 || recipe), nats.
        kl_max: The worst position's.
        top1: Fraction of positions with the same first choice.
        size: Of the bundle, bytes.
    """

    recipe: str
    positions: int
    error: float
    kl_mean: float
    kl_max: float
    top1: float
    size: int


@dataclass(frozen=True, slots=True)
class Choice:
    """What was taken and why.

    Attributes:
        recipe: The name of the recipe taken.
        reason: Why, one sentence.
        fell_back: None of the candidates was close enough.
        max_kl: The limit, nats.
        candidates: In the order of preference.
        losses: Of those that were tried, and of the fallback where it was needed.
        clips: What was shown.
        frames: Of all clips.
        seconds: That all of it took.
    """

    recipe: str
    reason: str
    fell_back: bool
    max_kl: float
    candidates: tuple[str, ...]
    losses: tuple[Loss, ...]
    clips: tuple[str, ...]
    frames: int
    seconds: float

    def dump(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return {"schema": SCHEMA, "factor": FACTOR, "fallback": FALLBACK, **asdict(self)}

    def table(self) -> str:
        """Return what was measured for a reader, one line a recipe, and the reason."""
        head = ("", "mean KL", "max KL", "top-1", "error", "bundle")
        rows = [
            (
                loss.recipe,
                f"{loss.kl_mean:.2e}",
                f"{loss.kl_max:.2e}",
                f"{loss.top1:.1%}",
                f"{loss.error:.2%}",
                f"{loss.size / 2**20:,.0f} MiB",
            )
            for loss in self.losses
        ]
        shown = f"{len(self.clips)} clips, {self.losses[0].positions} positions, against float32"
        return f"{parity.columns([head, *rows])}\n{shown}\n{self.reason}"


def candidates(wanted: str) -> list[Recipe]:
    """Return the recipes that ``auto`` or a list of names with commas stands for, without the fallback.

    Raises:
        ConfigError: There is no such recipe, or two have one name.
    """
    names = RANKED if wanted == "auto" else [name.strip() for name in wanted.split(",") if name.strip()]
    found = [load_recipe(name) for name in names if name != FALLBACK]
    known = [recipe.name for recipe in found]
    if len({*known, FALLBACK}) <= len(known):
        raise ConfigError(
            "two recipes to choose from have one name",
            evidence=[", ".join([*known, FALLBACK])],
            next_step="Name each once; a recipe of your own needs a name of its own in its file.",
        )
    return found


def choose(
    source: str,
    out: Path,
    ranked: Sequence[Recipe],
    shown: Sequence[Clip],
    *,
    stage: Stage,
    max_kl: float = MAX_KL,
    revision: str | None = None,
    note: str = "",
) -> tuple[Converted, Choice]:
    """Convert a checkpoint by the first recipe that is close enough to its float32 weights.

    Takes four bytes a parameter of disk for a while, beside the candidates; memory as a bundle takes when it runs.

    Args:
        source: Directory or hub id.
        out: The bundle's directory; must not exist.
        ranked: Recipes in the order of preference.
        shown: Clips to compare on.
        stage: Hears of every piece of work.
        max_kl: Limit on the mean KL, nats.
        revision: Of a hub id.
        note: As in `convert`.

    Raises:
        CheckpointError: The source cannot be used.
        EdgeError: OUT exists or cannot be written, or the disk has too little room.
    """
    begun = time.monotonic()
    with Aside(out) as aside:
        checkpoint = open_checkpoint(source, revision)
        _require_room(aside.path, checkpoint.parameters)
        pinned = None if checkpoint.revision == LOCAL else checkpoint.revision  # a branch may go on meanwhile

        def made(recipe: Recipe) -> Converted:
            with stage(f"{recipe.name}: converting") as progress:
                place = aside.path / recipe.name
                return convert(source, place, recipe, revision=pinned, note=note, progress=progress)

        exact = made(load_recipe(_EXACT)).bundle
        expected = _Expected(exact, shown, aside.path)
        with stage(f"{_EXACT}: answering about {len(shown)} clips") as progress:
            expected.answer(progress)
        shutil.rmtree(exact.path)
        trials = _Trials(made, expected, stage)
        taken, reason = _first_close_enough(ranked, trials, max_kl)
        found = trials.converted(taken)
        choice = Choice(
            recipe=taken,
            reason=reason,
            fell_back=bool(ranked) and taken == FALLBACK,
            max_kl=max_kl,
            candidates=tuple(recipe.name for recipe in ranked),
            losses=trials.losses,
            clips=tuple(clip.name for clip in shown),
            frames=sum(len(clip.frames) for clip in shown),
            seconds=round(time.monotonic() - begun, 1),
        )
        report = parity.strict_json(choice.dump(), indent=1)
        (found.bundle.path / CHOICE).write_text(f"{report}\n", encoding="utf-8")
        aside.publish(found.bundle.path)
    return Converted(Bundle(out, found.bundle.manifest, found.bundle.hash), found.unexpected), choice


def _first_close_enough(ranked: Sequence[Recipe], trials: _Trials, max_kl: float) -> tuple[str, str]:
    """Return the name of the recipe to take, and why. Each is tried only where none before it will do."""
    for recipe in ranked:
        loss = trials.loss(recipe)
        if loss.kl_mean <= max_kl:
            return (
                recipe.name,
                f"{recipe.name} is taken: its mean KL of {loss.kl_mean:.2g} nats is at most {max_kl:g}",
            )
        held_to = trials.loss(load_recipe(FALLBACK))
        if np.isfinite(loss.error) and loss.error <= FACTOR * held_to.error:
            times = f"{loss.error / held_to.error:.2f} times that of {FALLBACK}"
            return recipe.name, f"{recipe.name} is taken: its logit error is {times}, at most {FACTOR:g}"
        trials.drop(recipe)
    trials.loss(load_recipe(FALLBACK))
    if not ranked:
        return FALLBACK, f"{FALLBACK} is taken: no other was asked for"
    names = ", ".join(recipe.name for recipe in ranked)
    return FALLBACK, (
        f"falls back to {FALLBACK} (eight bits in blocks): {names} lost more than {max_kl:g} nats, and had more"
        f" than {FACTOR:g} times its logit error"
    )


class _Trials:
    """Bundles of recipes that were tried, and what each loses.

    Args:
        convert: Makes the bundle of a recipe.
        expected: What the float32 weights say.
        stage: Hears of every comparison.
    """

    def __init__(self, convert: Callable[[Recipe], Converted], expected: _Expected, stage: Stage) -> None:
        self._convert = convert
        self._expected = expected
        self._stage = stage
        self._made: dict[str, Converted] = {}
        self._losses: dict[str, Loss] = {}

    @property
    def losses(self) -> tuple[Loss, ...]:
        """Of all that were tried, in their order."""
        return tuple(self._losses.values())

    def loss(self, recipe: Recipe) -> Loss:
        """Return what a recipe loses; it is converted and compared where it was not yet."""
        if recipe.name not in self._losses:
            self._made[recipe.name] = found = self._convert(recipe)
            with self._stage(f"{recipe.name}: comparing") as progress:
                self._losses[recipe.name] = self._expected.loss(found.bundle, progress)
        return self._losses[recipe.name]

    def converted(self, name: str) -> Converted:
        """Return the bundle of a recipe that was tried and not dropped."""
        return self._made[name]

    def drop(self, recipe: Recipe) -> None:
        """Remove the bundle of a recipe; what it loses is still known."""
        shutil.rmtree(self._made.pop(recipe.name).bundle.path)


class _Expected:
    """What the float32 weights say about the clips: tokens in memory, logits on the disk."""

    def __init__(self, exact: Bundle, shown: Sequence[Clip], place: Path) -> None:
        self._exact = exact
        self._questions = questions(shown, exact.manifest)
        self._place = place
        self._said: list[list[int]] = []

    def answer(self, progress: Progress) -> None:
        """Have the float32 bundle answer. Its weights stay where they are mapped from, so memory holds none of them."""
        with Engine(self._exact, packed=False) as engine:
            for number, question in enumerate(self._questions):
                said, logits = own_logits(engine, question, ANSWER)
                np.save(self._file(number), logits)
                self._said.append(said)
                progress(f"clip {number + 1}", number + 1, len(self._questions))
        _free()

    def loss(self, bundle: Bundle, progress: Progress) -> Loss:
        """Lead a bundle along the answers and compare."""
        kl: list[float] = []
        same = 0
        apart = whole = 0.0
        with Engine(bundle) as engine:
            for number, (question, said) in enumerate(zip(self._questions, self._said, strict=True)):
                found = teacher_logits(engine, question, said)
                expected = np.load(self._file(number), mmap_mode="r")
                for row, other in zip(expected, found[:, : expected.shape[1]], strict=True):
                    exact, rounded = _double(row), _double(other)
                    kl.append(float(parity.kl_divergence(exact, rounded)[0]))
                    same += int(exact.argmax() == rounded.argmax())
                    apart += float(np.square(exact - rounded).sum())
                    whole += float(np.square(exact).sum())
                progress(f"clip {number + 1}", number + 1, len(self._questions))
        _free()
        size = sum(entry.size for entry in bundle.manifest.files.values())
        return Loss(
            recipe=bundle.manifest.recipe.name,
            positions=len(kl),
            error=_finite((apart / whole) ** 0.5),
            kl_mean=_finite(float(np.mean(kl))),
            kl_max=_finite(max(kl)),
            top1=same / len(kl),
            size=size,
        )

    def _file(self, number: int) -> Path:
        return self._place / f"logits-{number}.npy"


def _double(row: NDArray[np.float32]) -> NDArray[np.float64]:
    return np.asarray(row, np.float64)[None]


def _finite(value: float) -> float:
    """Return infinity for what is not a number, so that no limit lets it pass."""
    return float("inf") if np.isnan(value) else value


def _free() -> None:
    gc.collect()
    trim()


def _require_room(place: Path, parameters: int) -> None:
    """Refuse at once what would fail after minutes."""
    needed, free = _ROOM * 4 * parameters + 2 * parameters, shutil.disk_usage(place).free
    if free < needed:
        raise EdgeError(
            "comparing recipes needs more room on the disk",
            evidence=[
                f"{needed / 2**30:.1f} GiB for float32 weights and two bundles, {free / 2**30:.1f} are free"
            ],
            next_step="Make room, or name a recipe, for example: --recipe int4",
        )
