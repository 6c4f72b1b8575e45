"""Examines a bundle of the demo model as a watchman: `python -m export.demo.watches BUNDLE --clips 60 --stage a`.

A stream of held-out clips, encoded as H.264 and read back by the capture path, each with its key frame. Every clip is asked
what a watch asks, four standing rules among it, which go through the service's hysteresis: for each clip the state of a rule is
held against the state that right answers would have led to. Boxes and relations are scored twice, with the key frame against
the truth at its moment and without it against the truth at the end, and again for small sprites alone. Prints one JSON line last.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import numpy as np

from edge.answer.prompts import check_text, prompt_from, watch_text
from edge.answer.watch import Watches
from edge.config import WATCH_PROMPT, AnswerSettings, PromptSettings, WatchSettings
from edge.demo.world import Stage, Truth, asked
from edge.messages import Answer, Verdict, clip_id
from edge.model.bundle import open_bundle
from edge.model.engine import Engine
from edge.pipeline import ClipJob
from edge.records import ClipPlan, Prompt, Question
from edge.trial import auroc
from export.demo import exam, scores
from export.demo.exam import Film
from export.demo.labels import FPS
from export.demo.scores import Seen, Tally

FIRST_SEED: Final = 2_000_000
SMALL: Final = 0.06  # of the picture: a smaller sprite is small; a fifth of them are
RULES: Final = {
    "person": "Is there a person at the end?",
    "vehicle": "Is there a vehicle at the end?",
    "animal": "Is there an animal at the end?",
    "anything": "Does anything happen?",
}
_VERDICTS: Final[dict[str, Verdict]] = {"Yes.": "yes", "No.": "no"}


def questions_of(shown: Film) -> dict[str, Verdict]:
    """Return what a watch asks of a clip, with the right answers."""
    found = asked(shown.true, np.random.default_rng(shown.scene.seed))
    return {each.text: _VERDICTS[each.answer] for each in found if each.topic == "watch"}


def take(engine: Engine, shown: Film, number: int, *, key_frame_tokens: int, check: bool) -> list[Answer]:
    """Show a clip and ask: the watch, boxes with the key frame, boxes without it."""
    plan = ClipPlan(
        camera="exam",
        seq=number,
        clip_id=clip_id("exam", "exam", shown.scene.stage, shown.scene.seed),
        t_start=datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=number),
        clock_synced=True,
        seconds=shown.scene.seconds,
        fps=FPS,
        size=shown.size,
        source_size=shown.scene.size,
    )
    answers = AnswerSettings(key_frame_tokens=key_frame_tokens)
    spatial = prompt_from(PromptSettings(name="spatial", kind="spatial", max_tokens=640), answers)
    prompts = [_watch(shown, check=check), spatial, replace(spatial, name="plain", still_tokens=0)]
    job = ClipJob(engine, device="exam", plan=plan, prompts=prompts)
    for pair in shown.pairs:
        job.push([pair])
    return list(job.finish(shown.stats, still=shown.still))


def _watch(shown: Film, *, check: bool) -> Prompt:
    names = {text: rule for rule, text in RULES.items()}
    questions = tuple(
        Question(names.get(text, f"q{at}"), text, watch_text(text), check_text(text) if check else "", ())
        for at, text in enumerate(questions_of(shown))
    )
    # Asked of the clip alone: at the end is not at the key frame's moment.
    return Prompt("watch", "watch", "", WATCH_PROMPT.max_tokens, questions=questions)


def examine(
    engine: Engine, stage: Stage, *, clips: int, key_frame_tokens: int, check: bool
) -> dict[str, Any]:
    """Examine one bundle, and return its figures."""
    rules = [
        WatchSettings(id=rule, question=text, yes=2, no=2, of=3, hold_off_s=0) for rule, text in RULES.items()
    ]
    said, right = Watches("exam", rules, ["exam"]), Watches("exam", rules, ["exam"])
    verdicts: list[tuple[Verdict, Verdict, float]] = []
    states: Counter[tuple[str, str]] = Counter()
    tallies: dict[str, list[Tally]] = {"key_frame": [], "plain": []}
    small: dict[str, list[int]] = {"key_frame": [0, 0], "plain": [0, 0]}
    for number in range(clips):
        shown = exam.film(engine, FIRST_SEED + number, stage, stills=True)
        due = questions_of(shown)
        watch, sharp, plain = take(engine, shown, number, key_frame_tokens=key_frame_tokens, check=check)
        verdicts += [(due[each.question], each.answer, each.confidence) for each in watch.watches]
        true = watch.model_copy(
            update={
                "watches": tuple(
                    each.model_copy(update={"answer": due[each.question]}) for each in watch.watches
                )
            }
        )
        for ours, theirs in zip(said.take(watch), right.take(true), strict=True):
            if ours.state is not None and theirs.state is not None:
                states[theirs.state.state, ours.state.state] += 1
        for name, answer in (("key_frame", sharp), ("plain", plain)):
            tallies[name].append(exam.places(shown.true, answer))
            found, of = _small(shown.true, answer)
            small[name][0] += found
            small[name][1] += of
    told = [(expected, answer) for expected, answer, _ in verdicts]
    return {
        "recipe": engine.bundle.manifest.recipe.name,
        "clips": clips,
        "stage": stage,
        "second_look": check,
        "questions": len(told),
        "answers": _precision(
            told.count(("yes", "yes")),
            sum(answer == "yes" for _, answer in told),
            sum(expected == "yes" for expected, _ in told),
        ),
        "states": _precision(
            states["raised", "raised"],
            sum(count for (_, ours), count in states.items() if ours == "raised"),
            sum(count for (theirs, _), count in states.items() if theirs == "raised"),
        ),
        "confidence_auroc": auroc([(chance, expected == answer) for expected, answer, chance in verdicts]),
        "places": {name: _shares(each) for name, each in tallies.items()},
        "small_boxes": small,
    }


def _precision(hits: int, alarms: int, due: int) -> dict[str, float | int | None]:
    return {
        "hits": hits,
        "alarms": alarms,
        "due": due,
        "precision": round(hits / alarms, 4) if alarms else None,
        "recall": round(hits / due, 4) if due else None,
    }


def _small(true: Truth, answer: Answer) -> tuple[int, int]:
    """Return how many of the small sprites were found, and how many there are."""
    wanted = [each for each in exam.sights(true, exam.tick_of(answer)) if _area(each) < SMALL]
    labels = {each.label: each for each in exam.objects(answer)}
    found = sum(
        each.label in labels and scores.overlap(each, labels[each.label]) >= scores.OVERLAP for each in wanted
    )
    return found, len(wanted)


def _area(seen: Seen) -> float:
    x1, y1, x2, y2 = seen.box
    return (x2 - x1) * (y2 - y1)


def _shares(tallies: Sequence[Tally]) -> dict[str, float | None]:
    names = sorted({name for tally in tallies for name in tally})
    return {name: _share(tallies, name) for name in names}


def _share(tallies: Sequence[Tally], name: str) -> float | None:
    right = sum(tally[name][0] for tally in tallies if name in tally)
    of = sum(tally[name][1] for tally in tallies if name in tally)
    return round(right / of, 4) if of else None


def _examined(args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    with Engine(open_bundle(args.bundle), threads=args.threads) as engine:
        for check in (False, True):
            yield examine(engine, args.stage, clips=args.clips, key_frame_tokens=args.key_frame, check=check)


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m export.demo.watches", description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--stage", choices=("a", "b", "c"), default="a")
    parser.add_argument("--clips", type=int, default=60)
    parser.add_argument("--key-frame", type=int, default=300, help="tokens of the key frame")
    parser.add_argument("--threads", type=int, default=0, help="0: one for each physical core")
    for figures in _examined(parser.parse_args()):
        sys.stdout.write(json.dumps(figures) + "\n")


if __name__ == "__main__":
    main()
