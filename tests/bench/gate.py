"""What the gate costs and keeps on the drawn world, whose truth is known, beside dropping pairs at a steady pace.

usage: python -m tests.bench.gate [--clips 100] [--stage c] [--bundle DIR] [--svg FILE]

Without a bundle: the recall of events, which counts an event as recalled when a kept pair lies within half a second of its
beginning and one within half a second of its end (of a flash: when a kept pair shows it), against the share of pairs
kept. With a bundle the model answers every clip at each share as well, the events in its answers are marked, and what the
default loses against all pairs is told with an interval of its own. Steady dropping keeps the same share of all clips together. Intervals: 95 %, clips drawn again. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.capture.gate import Gate
from edge.demo.world import Event, Stage, draw_scene, frames, truth
from edge.model.bundle import open_bundle
from edge.model.engine import Engine
from edge.records import Size
from export.demo import exam
from export.demo.evaluate import FIRST_SEED
from export.demo.scores import TOLERANCE_S, Score, Tally, lost, score
from tests.bench.curve import Curve, Point, draw

FPS = 8.0
PAIR_S = 2 / FPS
THRESHOLDS = (0.05, 0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 20.0)
SHARES = (0.5, 0.2, 0.1, 0.05)
DEFAULT = 1.0
WARMING = 24  # other clips, on which the threshold for a share is looked up


@dataclass(slots=True)
class Row:
    """What one way of choosing pairs came to, over the clips."""

    name: str
    kept: int = 0
    pairs: int = 0
    tallies: list[Tally] = field(default_factory=list)

    @property
    def share(self) -> float:
        """The share of pairs that were kept."""
        return self.kept / max(1, self.pairs)

    def add(self, kept: Sequence[int], pairs: int, tally: Tally) -> None:
        """Add a clip."""
        self.kept += len(kept)
        self.pairs += pairs
        self.tallies.append(tally)

    def scores(self) -> dict[str, Score]:
        """Return its scores with their intervals."""
        return score(self.tallies)


def gated(pairs: Sequence[NDArray[np.uint8]], threshold: float) -> tuple[int, ...]:
    """Return the indices that the gate keeps of one clip, of a camera that it has never seen before."""
    height, width = pairs[0].shape[1:3]
    gate: Gate[int] = Gate(Size(height, width), fps=FPS, threshold=threshold)
    last = len(pairs) - 1
    kept = [each for index, two in enumerate(pairs) for each in gate.see(two, index, last=index == last)]
    return tuple(each.item for each in kept + gate.end())


def steady(pairs: int, share: float) -> tuple[int, ...]:
    """Return the indices of so many pairs at equal distances, the middle of each stretch."""
    count = max(1, round(pairs * share))
    return tuple(int((place + 0.5) * pairs / count) for place in range(count))


def recall(events: Sequence[Event], kept: Sequence[int]) -> Tally:
    """Mark which events of a clip have a kept pair near their beginning and one near their end."""
    times = np.array([index * PAIR_S + PAIR_S / 4 for index in kept])

    def near(at_s: float) -> bool:
        return bool(np.abs(times - at_s).min() <= TOLERANCE_S + 1e-6)

    tally: dict[str, list[float]] = {}
    for event in events:
        if event.kind == "flash":
            first, past = round(event.start_s * FPS), round(event.end_s * FPS)
            right = any(first <= tick < past for index in kept for tick in (2 * index, 2 * index + 1))
        else:
            right = near(event.start_s) and near(event.end_s)
        for name in ("recall", f"recall of {event.kind}"):
            row = tally.setdefault(name, [0.0, 0.0])
            row[0] += right
            row[1] += 1
    return {name: (right, of) for name, (right, of) in tally.items()}


def pairs_of(seed: int, stage: Stage) -> tuple[list[NDArray[np.uint8]], tuple[Event, ...]]:
    """Return the pictures of a held-out clip, pair by pair, and what happens in it."""
    scene = draw_scene(seed, stage, fps=FPS, split="held_out")
    pictures = list(frames(scene))
    pairs = [np.stack(pictures[at : at + 2]) for at in range(0, len(pictures) - 1, 2)]
    return pairs, truth(scene).events


def recalls(stage: Stage, clips: int) -> tuple[list[Row], list[Row], float]:
    """Return the rows of the gate, those of steady dropping at the same shares, and the gate's seconds a clip."""
    gates = {threshold: Row(f"gate {threshold:g}") for threshold in THRESHOLDS}
    films = []
    spent = 0.0
    for number in range(clips):
        pairs, events = pairs_of(FIRST_SEED + number, stage)
        films.append((len(pairs), events))
        began = time.process_time()
        for threshold, row in gates.items():
            kept = gated(pairs, threshold)
            row.add(kept, len(pairs), recall(events, kept))
        spent += time.process_time() - began
    paces = []
    for row in gates.values():
        pace = Row(f"steady {row.share:.3f}")
        for count, events in films:
            kept = steady(count, row.share)
            pace.add(kept, count, recall(events, kept))
        paces.append(pace)
    return list(gates.values()), paces, spent / clips / len(THRESHOLDS)


def thresholds_for(stage: Stage) -> dict[float, float]:
    """Return a threshold for each of `SHARES`, looked up on other clips than those that are examined."""
    films = [pairs_of(FIRST_SEED - 1 - number, stage)[0] for number in range(WARMING)]
    shares = []
    for threshold in THRESHOLDS:
        kept = sum(len(gated(pairs, threshold)) for pairs in films)
        shares.append(kept / sum(map(len, films)))
    order = np.argsort(shares)
    logs = np.interp(np.log(SHARES), np.log(np.array(shares)[order]), np.log(np.array(THRESHOLDS)[order]))
    return {share: float(np.exp(found)) for share, found in zip(SHARES, logs, strict=True)}


def answers(engine: Engine, stage: Stage, clips: int) -> tuple[Row, Row, list[Row], list[Row]]:
    """Let the model answer; return the rows of all pairs, of the default, of the gate and of steady dropping."""
    found = thresholds_for(stage)
    everything, default = Row("off"), Row(f"gate {DEFAULT:g}")
    gates = {share: Row(f"gate {threshold:.2f}") for share, threshold in found.items()}
    paces = {share: Row(f"steady {share:g}") for share in SHARES}
    for number in range(clips):
        film = replace(exam.film(engine, FIRST_SEED + number, stage), questions=())
        count = len(film.pairs)
        glances = [pair.frames for pair in film.pairs]
        ways: list[tuple[Row, Sequence[int]]] = [
            (everything, range(count)),
            (default, gated(glances, DEFAULT)),
            *((row, gated(glances, found[share])) for share, row in gates.items()),
            *((row, steady(count, share)) for share, row in paces.items()),
        ]
        for row, kept in ways:
            shown = replace(
                film,
                pairs=tuple(film.pairs[index] for index in kept),
                stats=replace(film.stats, pairs_gated=count - len(kept)),
            )
            row.add(kept, count, exam.mark(film, exam.take(engine, shown, "streamed")))
        sys.stdout.write(f"{number + 1} clips\r")
        sys.stdout.flush()
    return everything, default, list(gates.values()), list(paces.values())


def curve(name: str, rows: Sequence[Row], what: str) -> Curve:
    """Return rows as a curve of one score."""
    points = []
    for row in rows:
        found = row.scores()[what]
        points.append(Point(row.share, found.value, found.low, found.high))
    return Curve(name, tuple(sorted(points, key=lambda point: point.x)))


def table(rows: Sequence[Row], what: str) -> str:
    """Return one line a row."""
    lines = []
    for row in rows:
        found = row.scores()
        each = found[what]
        rest = "  ".join(
            f"{name.removeprefix('recall of ')} {100 * value.value:.0f}"
            for name, value in found.items()
            if name.startswith("recall of ")
        )
        lines.append(
            f"{row.name:>16} {100 * row.share:6.1f} % kept  {what} {100 * each.value:5.1f} "
            f"({100 * each.low:.1f}..{100 * each.high:.1f})  {rest}"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.gate", description=__doc__)
    parser.add_argument("--clips", type=int, default=100)
    parser.add_argument("--stage", choices=("a", "b", "c"), default="c")
    parser.add_argument("--bundle", type=Path, help="let this bundle answer as well")
    parser.add_argument("--threads", type=int, default=0, help="of the model; 0: one for each physical core")
    parser.add_argument("--svg", type=Path, help="draw the curves")
    args = parser.parse_args()
    extra: dict[str, Any]
    if args.bundle:
        what = "event_f1"
        with Engine(open_bundle(args.bundle), threads=args.threads) as engine:
            everything, default, gates, paces = answers(engine, args.stage, args.clips)
        rows = [everything, default, *gates, *paces]
        curves = [
            curve("gate", [everything, default, *gates], what),
            curve("steady", [everything, *paces], what),
        ]
        price = lost(everything.tallies, default.tallies, what)
        title = "event F1 of the demo model"
        extra = {"lost": [round(each, 4) for each in (price.value, price.low, price.high)]}
    else:
        what = "recall"
        gates, paces, seconds = recalls(args.stage, args.clips)
        rows = [*gates, *paces]
        curves = [curve("gate", gates, what), curve("steady", paces, what)]
        title = "events with a kept pair near their beginning and end"
        extra = {"gate_s_a_clip": seconds}
    sys.stdout.write(table(rows, what))
    if args.bundle:
        points = " ".join(f"{100 * each:.1f}" for each in extra["lost"])
        sys.stdout.write(f"lost at the default, of the same clips (points, lowest, highest): {points}\n")
    if args.svg:
        args.svg.write_text(draw(curves, title=title), encoding="utf-8")
        sys.stdout.write(f"{args.svg}\n")
    result = {
        "stage": args.stage,
        "clips": args.clips,
        "what": what,
        **extra,
        "rows": [
            {"name": row.name, "share": round(row.share, 4)}
            | {
                name: [round(found.value, 4), round(found.low, 4), round(found.high, 4)]
                for name, found in row.scores().items()
                if found.of  # else there was nothing of the kind
            }
            for row in rows
        ],
    }
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
