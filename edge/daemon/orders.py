"""What the governor allows at the moment, camera by camera, in the terms in which the dispatcher works."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from edge.host.governor import TOP, Cause, Standing
from edge.messages import SkipReason
from edge.records import Effort, Prompt

TOKENS_LEAST = 64  # of a shortened answer: enough to end a sentence

_REASONS: dict[Cause, SkipReason] = {
    "backlog": "backlog",
    "budget": "backlog",
    "heat": "heat",
    "power": "power",
    "battery": "battery",
    "memory": "memory",
}


@dataclass(frozen=True, slots=True)
class Orders:
    """Where the ladders stand.

    Attributes:
        machine: For all cameras.
        cameras: What one camera's clips may cost; the worse of the two counts for it.
        cause: To be named where a clip is given up because of the rung.
    """

    machine: Standing = TOP
    cameras: Mapping[str, Standing] = field(default_factory=dict)
    cause: Cause = "backlog"

    @property
    def works(self) -> bool:
        """Whether clips are begun at all."""
        return self.machine.what.works

    @property
    def rests(self) -> bool:
        """Whether the model rests between clips."""
        return self.machine.what.rests

    @property
    def reason(self) -> SkipReason:
        """The reason that a skipped clip is announced with."""
        return _REASONS[self.cause]

    @property
    def detail(self) -> str:
        """A few words for people beside it."""
        return f"the service does less: {self.machine.what.name}"

    def standing(self, camera: str) -> Standing:
        """Return what counts for a camera."""
        own = self.cameras.get(camera, TOP)
        return own if own.rung > self.machine.rung else self.machine

    def effort(self, camera: str) -> Effort:
        """Return what is done for a clip of a camera that is begun now."""
        standing = self.standing(camera)
        rung = standing.what
        return Effort(standing.rung, rung.name, standing.causes, area=rung.area)

    def gate(self, camera: str) -> float:
        """Return the factor on the threshold of a camera's gate."""
        return self.standing(camera).what.gate

    def stride(self, camera: str) -> int:
        """Return in how many pairs of the grid at most one is shown to the model."""
        return round(1 / self.standing(camera).what.fps)

    def prompts(self, camera: str, prompts: Sequence[Prompt]) -> tuple[Prompt, ...]:
        """Return the prompts with the budgets that their answers get."""
        return shortened(prompts, self.standing(camera).what.tokens)


def shortened(prompts: Sequence[Prompt], share: float) -> tuple[Prompt, ...]:
    """Return prompts whose answers get that share of their budgets, and at least `TOKENS_LEAST`."""
    return tuple(
        replace(
            prompt, max_tokens=max(round(share * prompt.max_tokens), min(TOKENS_LEAST, prompt.max_tokens))
        )
        for prompt in prompts
    )
