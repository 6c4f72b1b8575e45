"""What is taught when, and how fast. Pure.

A training goes through phases: first seeing, on single moments of crowds; then following, what has happened by each pair of
a clip; then telling, on ever longer clips. It leaves a phase when it masters it, or when the phase's share of the budget is
used up. A trial that left seeing by the clock named a twenty-fifth of what lay in the cells, and learnt nothing afterwards.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from edge.demo.world import Stage
from edge.demo.world.sight import CELL
from edge.records import Size
from export.demo.labels import FRAME, PAIRS

PEAK: Final = 0.01
"""Learning rate of the matrices (Muon, in the scale of AdamW)."""
WARM_UP: Final = 50
FLOOR: Final = 0.02
"""Of the highest rate, at the end."""
DECAY: Final = 0.5
"""Last share of the training, over which the rate falls; before it stays, so that a training can be made longer."""
TEXT_A_PAIR: Final = 6
"""Tokens of a pair beside its visual ones: a timestamp, and one to each side of the picture."""
TOKENS_A_QUESTION: Final = 130
"""With its answer, about."""
_BEFORE: Final[dict[Stage, Stage]] = {"a": "a", "b": "a", "c": "b"}
CROWD_PAIRS: Final = 3
"""Of a crowd that is asked where all is; the key frame shows one of them."""
CROWD_QUESTIONS: Final = 2
"""Worth of tokens that a crowd's answer takes, of two to four objects."""
GATED_OF: Final = 4
"""The longest of so many lengths is a gated clip's: of a minute the gate leaves a sixth or less."""


@dataclass(frozen=True, slots=True)
class Phase:
    """A part of the training.

    Attributes:
        mark: Name of the mark by which it is judged.
        mastered: At this mark it is left.
        until: Share of the whole training at which it is left anyway.
        pairs: Lengths of clips, in pairs, each as likely as the next.
        sprites: Sprites that may be in one clip at most, None as many as the world's stage has.
        questions: Asked of every clip.
        full: Share of the prompts that are as long as in use; a short clip costs less than such a prompt.
        uses: How often a clip is taught, each time with other questions.
        seeing: Nothing but the vision tower is taught, on crowds.
        gated: Share of the batches that are one clip of which the gate has dropped pairs.
        stills: Share of the batches with a key frame that is shown where places are asked for; of crowds that are only seen, the
            share that is seen at a key frame's size.
        together: Share of the clips that show two sprites at the moment of which boxes are asked; one in seven does by chance.
        crowds: Share of the batches that are not gated whose clips are crowds, asked where all is: with two to four to be told apart, an
            answer teaches more than a minute does in which one or two come.
        aids: Weight of what the heads are told beside the answers. At 1 the gradient of the heads at key frames alone is nine times as long
            as that of the answers once both are known in the main, and answers are learnt hardly any further.
        late: Share of the batches whose clips begin at a later time than 0: so a short clip teaches the times of a long one.
        rehearsed: Share of the batches that are drawn from the stage before, lest it be forgotten.
        quiet: Share of the clips in which nothing happens, whatever stands there; where two are to be shown one in forty would be (stage b).
    """

    mark: str
    mastered: float
    until: float
    pairs: tuple[int, ...]
    sprites: int | None
    questions: int
    full: float
    uses: int
    seeing: bool = False
    gated: float = 0.0
    stills: float = 0.0
    late: float = 0.0
    together: float = 0.0
    crowds: float = 0.0
    aids: float = 1.0
    rehearsed: float = 0.0
    quiet: float = 0.0


@dataclass(frozen=True, slots=True)
class Syllabus:
    """What a training goes through.

    Attributes:
        phases: In order.
        block: Steps between two looks at whether a phase is mastered.
    """

    phases: tuple[Phase, ...]
    block: int = 25


_SEE: Final = Phase("placed", 0.90, 0.15, (6,), None, 0, 0.0, 4, seeing=True)
_FOLLOW: Final = Phase("followed", 0.80, 0.30, (8, 12, 16), None, 0, 0.0, 3)
_TELL: Final = Phase("exact", 0.40, 0.50, (8, 12, 16), None, 3, 0.25, 3)
_LONG: Final = Syllabus(
    (
        replace(_SEE, until=0.18, stills=0.7),
        replace(_FOLLOW, until=0.20),
        replace(_TELL, until=0.28, stills=0.3),
        Phase("exact", 0.50, 0.40, (16, 24, 32, 48), None, 4, 0.4, 3, stills=0.3, late=0.5, together=0.4),
        Phase(
            "exact",
            1.01,
            0.70,
            (32, 32, 48, 64, 96, 128, 240),
            None,
            5,
            0.6,
            3,
            gated=0.4,
            stills=0.7,
            late=0.6,
            together=0.6,
        ),
        # Boxes and counts are learnt last, most of them from key frames, of which short clips show more.
        Phase(
            "exact",
            1.01,
            1.00,
            (*(4, 8, 8, 16, 16, 24, 24, 32, 48) * 2, 128, 240),
            None,
            5,
            0.6,
            2,
            gated=0.5,
            stills=0.6,
            late=0.6,
            together=0.8,
            crowds=0.4,
            aids=0.06,
            quiet=0.12,
        ),
    )
)
SYLLABI: Final = {
    "a": Syllabus(
        (
            _SEE,
            _FOLLOW,
            _TELL,
            Phase("exact", 0.50, 0.70, (12, 16, 24, 32), None, 4, 0.4, 3),
            Phase("exact", 1.01, 1.00, (16, 24, 32, 40, 48, 64), None, 4, 0.6, 3),
        )
    ),
    "b": _LONG,
    # What two do together takes `COUPLE_S`, 40 pairs: of the lengths above one clip in ten is so long, and it was hardly learnt.
    "c": replace(
        _LONG,
        phases=(
            *_LONG.phases[:-1],
            replace(
                _LONG.phases[-1],
                pairs=(4, 8, 16, 24, *(40, 40, 48) * 4, 64, 128, 240),
                crowds=0.25,
                aids=0.12,
                rehearsed=0.4,
            ),
        ),
    ),
}
"""By stage; stages b and c begin again with short clips, whatever weights they start from."""


def last_phase(syllabus: Syllabus) -> Syllabus:
    """Return nothing but the last phase of a syllabus, for weights that have been through the others."""
    return replace(syllabus, phases=syllabus.phases[-1:])


@dataclass(frozen=True, slots=True)
class Plan:
    """One batch: how many clips of how many pairs, of which phase, and whether they go through the gate.

    A gated clip is alone in its batch, because what is left of it has its own length and its own times. With ``still`` each has a
    key frame; crowds that are only seen are pictures of a key frame's size then. The first pair has the time of pair ``first``.
    Of a ``crowd`` each pair shows other sprites, and all that is asked is where they are.
    """

    phase: Phase
    stage: Stage
    pairs: int
    clips: int
    gated: bool = False
    still: bool = False
    first: int = 0
    crowd: bool = False


def cells_of(size: Size) -> int:
    """Return the visual tokens of a picture or a pair."""
    return size.height // CELL * (size.width // CELL)


def plan(phase: Phase, rng: np.random.Generator, *, stage: Stage, tokens: int) -> Plan:
    """Choose one batch.

    Args:
        phase: In which the training is.
        rng: Of the choice.
        stage: Of the training.
        tokens: About so many tokens a step; of crowds the vision tower makes more of.
    """
    gated = bool(rng.random() < phase.gated)
    pairs = int(rng.choice(phase.pairs, GATED_OF if gated else 1).max())
    crowd = not gated and bool(rng.random() < phase.crowds)
    if crowd:
        pairs = CROWD_PAIRS
    questions = CROWD_QUESTIONS if crowd else phase.questions
    one = pairs * (TEXT_A_PAIR + cells_of(FRAME)) + questions * TOKENS_A_QUESTION
    still = bool(rng.random() < phase.stills)
    first = int(rng.integers(PAIRS - pairs + 1)) if rng.random() < phase.late else 0
    drawn = _BEFORE[stage] if rng.random() < phase.rehearsed else stage
    return Plan(phase, drawn, pairs, 1 if gated else max(1, round(tokens / one)), gated, still, first, crowd)


class Course:
    """Which phase it is at which step, decided from the marks of whole blocks of steps, two blocks ahead.

    So batches can be drawn ahead, and a training that goes on takes the same course as one that never stopped.

    Args:
        syllabus: What there is to go through.
        levels: Of each block so far and the next two; as it was saved.
        marks: Of the steps of the block that is not over yet; as they were saved.
    """

    def __init__(
        self,
        syllabus: Syllabus,
        levels: list[int] | None = None,
        marks: list[dict[str, float]] | None = None,
    ) -> None:
        self._phases = syllabus.phases
        self._block = syllabus.block
        self.levels = levels or [0, 0]
        self.marks = marks or []

    def phase(self, step: int) -> Phase:
        """Return the phase of a step of this block or the next."""
        return self._phases[self.level(step)]

    def known(self, step: int) -> bool:
        """Whether it is known yet which phase a step will be of."""
        return step // self._block < len(self.levels)

    def level(self, step: int) -> int:
        """Return the number of the phase of a step."""
        return self.levels[step // self._block]

    def note(self, step: int, marks: Mapping[str, float], share: float) -> None:
        """Take in the marks of a step that was made, in order, and how much of the training is done."""
        self.marks.append(dict(marks))
        if (step + 1) % self._block:
            return
        block, last = step // self._block, self.levels[-1]
        if len(self.levels) == block + 2:
            phase = self._phases[last]
            known = [each[phase.mark] for each in self.marks if each[phase.mark] == each[phase.mark]]
            mastered = self.levels[block] == last and known and sum(known) / len(known) >= phase.mastered
            on = (mastered or share >= phase.until) and last + 1 < len(self._phases)
            self.levels.append(last + bool(on))
        self.marks = []


def rate(step: int, share: float) -> float:
    """Return the learning rate as a share of the highest: a linear start, level, and a fall to the end."""
    return min(1.0, (step + 1) / WARM_UP) * max(FLOOR, min(1.0, (1 - share) / DECAY))
