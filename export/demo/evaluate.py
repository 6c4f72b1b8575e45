"""Examines bundles of the demo model. `python -m export.demo.evaluate BUNDLE [BUNDLE ...] --stage a --clips 500`.

The shipped engine answers clips that it has never seen, of combinations of sprite, colour and motion that training left
out as well as of others. Each clip is rendered, encoded as H.264 and read back by the capture path. Prints a table with 95 %
intervals and, last, one JSON line; ``--page`` draws clips with truth and answer side by side.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

from edge.demo.world import Stage
from edge.errors import EdgeError
from edge.messages import Answer
from edge.model.bundle import open_bundle
from edge.model.engine import Engine
from export.demo import exam, page
from export.demo.exam import FALSE, Film
from export.demo.scores import Score, Tally, score

FIRST_SEED: Final = 1_000_000
"""Of the examination; clips of another split than training's are drawn from it anyway."""
EXAMPLES: Final = 12  # on the page


@dataclass(slots=True)
class Results:
    """What one bundle's examination found.

    Attributes:
        name: Of its recipe.
        tallies: Of each clip, streamed.
        novel: Of those clips that hold a combination training left out.
        falsified: By way, of each clip so shown.
        differing: Clips of which one-shot answers are others than streamed ones, and how many were compared.
        seconds: Spent on the clips, streamed.
        lengths: Of the clips, seconds, and how many there are of each.
        examples: Clips with their answers.
    """

    name: str
    tallies: list[Tally] = field(default_factory=list)
    novel: list[Tally] = field(default_factory=list)
    falsified: dict[str, list[Tally]] = field(default_factory=dict)
    differing: tuple[int, int] = (0, 0)
    seconds: float = 0.0
    lengths: Counter[str] = field(default_factory=Counter)
    examples: list[tuple[Film, tuple[Answer, ...]]] = field(default_factory=list)


def examine(
    engine: Engine,
    stage: Stage,
    *,
    clips: int,
    checks: int,
    seconds: float | None = None,
    progress: Callable[[int], None] = lambda _done: None,
) -> Results:
    """Examine one bundle.

    Args:
        engine: The bundle's.
        stage: Of the world.
        clips: How many.
        checks: How many of them are also shown at once, and falsified.
        seconds: Length of the clips; None as the stage has it.
        progress: Told after each clip how many are done.
    """
    found = Results(engine.bundle.manifest.recipe.name, falsified={way: [] for way in FALSE})
    before: Film | None = None
    for number in range(clips):
        shown = exam.film(engine, FIRST_SEED + number, stage, seconds=seconds)
        began = time.perf_counter()
        answers = exam.take(engine, shown, "streamed")
        found.seconds += time.perf_counter() - began
        tally = exam.mark(shown, answers)
        found.tallies.append(tally)
        found.lengths[f"{shown.scene.seconds:g}"] += 1
        if shown.scene.novel:
            found.novel.append(tally)
        if number < EXAMPLES:
            found.examples.append((shown, answers))
        if number < checks:
            again = exam.take(engine, shown, "one-shot")
            differs = [_said(answer) for answer in answers] != [_said(answer) for answer in again]
            found.differing = found.differing[0] + differs, found.differing[1] + 1
            for way in FALSE:
                # Another clip's frames: the one before; the first borrows from one that is not examined.
                other = before or exam.film(engine, FIRST_SEED - 1, stage, seconds=seconds)
                answer = exam.take(engine, shown, way, other=other)
                found.falsified[way].append(exam.mark(shown, answer))
        before = shown
        progress(number + 1)
    return found


def _said(answer: Answer) -> tuple[object, ...]:
    return answer.headline, answer.summary, answer.text, answer.events, answer.objects, answer.relations


def figures(found: Results) -> dict[str, Any]:
    """Return all scores of one bundle as JSON."""
    return {
        "recipe": found.name,
        "clips": len(found.tallies),
        "scores": _plain(score(found.tallies)),
        "novel_clips": len(found.novel),
        "novel": _plain(score(found.novel)),
        "falsified": {
            way: _plain(score(tallies)).get("event_f1") for way, tallies in found.falsified.items() if tallies
        },
        "one_shot_differs": list(found.differing),
        "seconds_a_clip": round(found.seconds / max(1, len(found.tallies)), 3),
    }


def _plain(scored: dict[str, Score]) -> dict[str, list[float | None]]:
    return {
        name: [_number(each.value), _number(each.low), _number(each.high), each.of]
        for name, each in scored.items()
    }


def _number(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 4)


def table(bundles: Sequence[dict[str, Any]]) -> str:
    """Return the figures as lines, one column for each bundle."""
    rows = ["".join(f"{text:>26}" for text in ("", *(each["recipe"] for each in bundles)))]
    for title, key in (("", "scores"), ("novel: ", "novel")):
        for name in sorted({name for each in bundles for name in each[key]}):
            cells = [_cell(each[key].get(name)) for each in bundles]
            rows.append("".join(f"{text:>26}" for text in (title + name, *cells)))
    for way in FALSE:
        cells = [_cell(each["falsified"].get(way)) for each in bundles]
        rows.append("".join(f"{text:>26}" for text in (f"{way}: event_f1", *cells)))
    cells = ["{} of {}".format(*each["one_shot_differs"]) for each in bundles]
    rows.append("".join(f"{text:>26}" for text in ("one-shot differs", *cells)))
    return "\n".join(rows) + "\n"


def _cell(found: Sequence[float | None] | None) -> str:
    if found is None or found[0] is None:
        return "-"
    value, low, high = (100 * (each or 0.0) for each in found[:3])
    return f"{value:.1f} ({low:.1f}..{high:.1f})"


def main() -> None:
    """Run the command."""
    args = _arguments().parse_args()
    try:
        results = list(_examined(args))
    except EdgeError as error:
        sys.stderr.write(error.render() + "\n")
        sys.exit(error.exit_code)
    found = [figures(each) for each in results]
    sys.stdout.write(table(found))
    if args.page:
        args.page.write_text(page.draw(results[0].examples, results[0].name), encoding="utf-8")
        sys.stdout.write(f"{args.page}\n")
    lengths = dict(sorted(results[0].lengths.items(), key=lambda each: float(each[0])))
    line = {"stage": args.stage, "clips": args.clips, "lengths_s": lengths, "bundles": found}
    sys.stdout.write(json.dumps(line) + "\n")


def _examined(args: argparse.Namespace) -> Iterator[Results]:
    for path in args.bundle:
        with Engine(open_bundle(path), threads=args.threads) as engine:
            yield examine(
                engine,
                args.stage,
                clips=args.clips,
                checks=args.checks,
                seconds=args.seconds,
                progress=partial(_progress, path.name, args.clips),
            )


def _progress(name: str, clips: int, done: int) -> None:
    """Write over the line of the clip before, and end the line with the last clip."""
    sys.stderr.write(f"\r{name}: {done} of {clips} clips" + ("\n" if done == clips else ""))
    sys.stderr.flush()


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m export.demo.evaluate", description=__doc__)
    parser.add_argument("bundle", type=Path, nargs="+", help="bundles, for example one for each recipe")
    parser.add_argument("--stage", choices=("a", "b", "c"), default="a")
    parser.add_argument("--clips", type=int, default=500)
    parser.add_argument("--checks", type=int, default=60, help="clips also shown at once, and falsified")
    parser.add_argument("--seconds", type=float, help="length of the clips, where not as the stage has it")
    parser.add_argument("--threads", type=int, default=0, help="0: one for each physical core")
    parser.add_argument("--page", type=Path, help="an HTML page with examples")
    return parser


if __name__ == "__main__":
    main()
