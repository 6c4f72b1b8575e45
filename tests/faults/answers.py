"""Answers of every kind, drawn from a bundle's own logits up to chaos, held against what subscribers are promised.

    python -m tests.faults.answers --answers 10000 [--bundle DIR]

Temperatures from 0 to 20, budgets from 16 to 400 tokens, noise for a clip. Each answer must be valid under its published
schema, no longer than its budget (or than the schema's shortest answer), and say so if it was cut short: every tenth is
written again with four times the budget, and if it then says something else, it must have been marked. Prints one JSON
line last; anything broken ends it with an error.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import jsonschema
import numpy as np

from edge.answer.assemble import Author, Work, Written, assemble
from edge.answer.prompts import prompt_from, watch_text
from edge.answer.schema import model_schema
from edge.config import PromptSettings
from edge.messages import BODIES, Answer, clip_id, published_schema
from edge.model.bundle import open_bundle
from edge.model.engine import Engine, Fork, Reply, Sampling
from edge.pipeline import watched
from edge.records import ClipPlan, ClipStats, Pair, Prompt, Question, Size
from edge.share import demo_bundle

SECONDS, FPS, SIZE = 4.0, 8.0, Size(64, 96)
AGAIN: Final = 10
RAIN: Final = Question("rain", "Is it raining?", watch_text("Is it raining?"), "", ())
_KINDS = tuple(BODIES)
_VALIDATOR = jsonschema.Draft202012Validator(published_schema("answer"))


def main() -> None:
    """Run the campaign."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.answers")
    parser.add_argument("--answers", type=int, default=10_000)
    parser.add_argument("--bundle", type=Path, default=demo_bundle())
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    sys.stdout.write(json.dumps(run(args.bundle, answers=args.answers, seed=args.seed)) + "\n")


def run(bundle: Path, *, answers: int, seed: int) -> dict[str, Any]:
    """Draw and check so many answers.

    Raises:
        AssertionError: A promise was broken.
    """
    begun = time.monotonic()
    counts: Counter[str] = Counter()
    rng = np.random.default_rng(seed)
    with Engine(open_bundle(bundle)) as engine, engine.stream(SIZE, round(SECONDS * FPS)) as stream:
        stream.push(list(_noise(rng)))
        fork = stream.fork()
        for number in range(answers):
            counts.update(_one(engine, fork, rng, number))
    return {
        "bundle": bundle.name,
        **{name: counts[name] for name in ("answers", *_KINDS, "truncated", "written_again", "changed")},
        "tokens": counts["tokens"],
        "seconds": round(time.monotonic() - begun, 1),
    }


def _one(engine: Engine, fork: Fork, rng: np.random.Generator, number: int) -> Counter[str]:
    kind = _KINDS[number % len(_KINDS)]
    limit = int(rng.integers(16, 400))
    prompt = _prompt(kind, limit)
    temperature = float(rng.choice([0.0, 0.7, 1.0, 2.0, 5.0, 20.0]))
    sampling = Sampling(temperature=temperature, top_k=int(rng.choice([0, 0, 20])))
    seed = int(rng.integers(2**31))
    schema = model_schema(kind, seconds=SECONDS)

    def reply(budget: int) -> Reply:
        text = RAIN.text if kind == "watch" else prompt.text
        return fork.ask(text, schema=schema, max_tokens=budget, sampling=sampling, seed=seed)

    found = reply(limit)
    answer = _assembled(found, prompt, engine)
    payload = json.loads(answer.payload())
    _VALIDATOR.validate(payload)
    assert Answer.model_validate(payload) == answer
    assert len(found.tokens) == answer.provenance.tokens_out <= max(limit, 40), f"{kind}: too long"
    assert b"".join(found.pieces).decode(errors="replace") == found.text
    assert answer.provenance.truncated == (found.finish != "stop")
    assert all(each.answer == "unsure" for each in answer.watches if answer.provenance.truncated)
    counts = Counter({"answers": 1, kind: 1, "tokens": len(found.tokens)})
    counts["truncated"] += answer.provenance.truncated
    if number % AGAIN == 0:
        longer = reply(4 * limit)
        counts["written_again"] += 1
        counts["changed"] += longer.text != found.text
        assert longer.text == found.text or answer.provenance.truncated, f"{kind}: cut short and not marked"
    return counts


def _prompt(kind: str, limit: int) -> Prompt:
    words = "What do you see?" if kind == "ask" else ""
    return prompt_from(
        PromptSettings.model_validate({"name": kind, "kind": kind, "text": words, "max_tokens": limit})
    )


def _assembled(reply: Reply, prompt: Prompt, engine: Engine) -> Answer:
    pairs = round(SECONDS * FPS) // 2
    return assemble(
        Written(
            text=reply.text,
            logprobs=reply.logprobs,
            tokens_in=reply.tokens_in,
            tokens_out=len(reply.tokens),
            truncated=reply.finish != "stop",
            pieces=reply.pieces,
            chances=reply.chances,
        ),
        device="d",
        plan=ClipPlan(
            camera="cam",
            seq=0,
            clip_id=clip_id("d", "cam", "campaign", 0),
            t_start=datetime(2026, 1, 1, tzinfo=UTC),
            clock_synced=True,
            seconds=SECONDS,
            fps=FPS,
            size=SIZE,
            source_size=SIZE,
        ),
        stats=ClipStats(SECONDS, 2 * pairs, 2 * pairs, 0, 0, pairs, 0.0, (), 0.0),
        prompt=prompt,
        author=Author("campaign", engine.bundle.hash, "none", ""),
        work=Work(pairs, 0.0, 0.0, 0.0, None, None, shown=tuple(range(pairs))),
        watches=[watched(RAIN, lambda _text: reply)] if prompt.kind == "watch" else [],
    )


def _noise(rng: np.random.Generator) -> Iterator[Pair]:
    for index in range(round(SECONDS * FPS) // 2):
        frames = rng.integers(0, 256, (2, SIZE.height, SIZE.width, 3), dtype=np.uint8)
        yield Pair(index, (2 * index + 0.5) / FPS, frames)


if __name__ == "__main__":
    main()
