"""How much is done for one clip at the shell, and what it took: a budget if one is given, energy, and costs to remember.

Without a budget everything is done: whoever asks about one clip waits for it, and a rung chosen behind their back would make
two runs differ. With one, the pairs are taken up first, 70 MiB for 60 s at 256 x 192, so that the rung is chosen for what
is really in the clip. The service chooses by itself, for it has to keep up.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from edge.config import cache_directory
from edge.daemon.orders import shortened
from edge.daemon.recording import thinned
from edge.host import budget
from edge.host.budget import CELL_PIXELS, Costs, Need
from edge.host.devices import this_device
from edge.host.energy import Account, open_meter
from edge.host.governor import RUNGS
from edge.host.sensors import Throttle, cpu_seconds, throttle
from edge.messages import Answer
from edge.model.bundle import Bundle
from edge.model.census import census
from edge.records import ALL, Effort, Pair, Prompt, Size


@dataclass(frozen=True, slots=True)
class Share:
    """What is left of a clip: its pairs, its prompts with their budgets, and the rung that says why."""

    pairs: tuple[Pair, ...]
    prompts: tuple[Prompt, ...]
    effort: Effort


class Thrift:
    """Looks after one clip; energy is counted from its making on.

    Args:
        bundle: Whose costs count.
        threads: Of the model; 0: one per core.
    """

    def __init__(self, bundle: Bundle, *, threads: int) -> None:
        self._bundle = bundle
        self._device = this_device()
        self._file = budget.costs_file(cache_directory())
        self._key = budget.key(bundle.hash, self._device, threads)
        self._costs: Costs | None = None
        self._account = Account(self._device, open_meter())
        self._account.begin(time.monotonic(), cpu_seconds())

    def costs(self, cells: float) -> Costs:
        """Return what is known of this machine with this bundle: measured, or else predicted."""
        if self._costs is None:
            self._costs = budget.load(self._file, self._key)
        if self._costs is None:
            self._costs = budget.predicted(census(self._bundle), self._device, cells=cells)
        return self._costs

    def share(
        self, pairs: Iterable[Pair], prompts: Sequence[Prompt], *, size: Size, grid: int, within_s: float
    ) -> Share:
        """Return as much of a clip as can be worked on in a time, by the best rung for it.

        Args:
            pairs: All that the gate has left.
            prompts: What it is asked.
            size: Of its frames.
            grid: Pairs of a clip of that length.
            within_s: Seconds of work.
        """
        held = tuple(pairs)
        cells = size.height * size.width / CELL_PIXELS
        need = Need(
            kept=len(held), grid=grid, cells=cells, words=float(sum(prompt.max_tokens for prompt in prompts))
        )
        at = budget.best_rung(self.costs(cells), need, within_s)
        rung = RUNGS[at]
        if not at:
            return Share(held, tuple(prompts), ALL)
        return Share(
            tuple(thinned(held, round(1 / rung.fps))),
            shortened(prompts, rung.tokens),
            Effort(at, rung.name, ("budget",), area=rung.area),
        )

    def tick(self) -> None:
        """Read the machine's meter, if it has one; to be called every second or so."""
        self._account.tick(time.monotonic())

    def told(self, answer: Answer) -> Answer:
        """Return an answer with what the machine says of it."""
        energy = self._account.so_far(time.monotonic(), cpu_seconds())
        slowed = throttle()
        made = answer.provenance.model_copy(
            update={
                "energy_j": None if energy is None else energy.joules,
                "energy_source": None if energy is None else energy.source,
                "throttled": None if slowed is None else slowed != Throttle(),
            }
        )
        return answer.model_copy(update={"provenance": made})

    def remember(self, answers: Sequence[Answer]) -> None:
        """Keep what the clip has cost, for the next one and for the service."""
        for answer in answers:
            seen = budget.seen(answer.provenance)
            self._costs = budget.learn(self.costs(seen.cells), seen)
        if self._costs is not None and self._costs.clips:
            budget.save(self._file, self._key, self._costs)
