"""One fixed JSON answer, replayed: what forced tokens save and what the grammar costs. `python -m tests.bench.replay BUNDLE`.

All ways write the same tokens. ``plain``: one by one, without a grammar. ``masked``: one by one with the grammar, its masks
and the way to the end counted at every token. ``forced``: as the service does it, by its own loop: tokens that the grammar
forces are appended together with the next free one, and few logits are computed where few are allowed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge.answer.schema import model_schema
from edge.model.bundle import open_bundle
from edge.model.decoder import Arena
from edge.model.engine import Engine, Sampling
from edge.model.fork import embedded
from edge.model.generate import generate
from edge.model.grammar import Constraint, Ending
from edge.model.layout import text_piece
from edge.model.sampling import choose

ANSWER = {
    "headline": "A man walks across the square while two people talk",
    "objects": [
        {"label": "man with a bag", "bbox_2d": [112, 408, 187, 655]},
        {"label": "woman in a red coat", "bbox_2d": [530, 371, 588, 560]},
        {"label": "parked bicycle", "bbox_2d": [702, 615, 790, 704]},
    ],
    "relations": [
        {"subject": "man with a bag", "relation": "left of", "object": "woman in a red coat"},
        {"subject": "parked bicycle", "relation": "in front of", "object": "woman in a red coat"},
    ],
}
KIND = "spatial"
ROOM = 400  # tokens that the answer may take
BEGIN = -1  # stands for the question


def pieces(engine: Engine, start: Constraint) -> list[tuple[list[int], bool]]:
    """Cut the answer into runs of tokens as the grammar leads, and say of each whether it was forced."""
    rest = json.dumps(ANSWER, separators=(",", ":")).encode()
    grammars, tokenizer = engine.parts.grammars, engine.tokenizer
    constraint, found = start.copy(), []
    while rest:
        run = constraint.forced()
        forced = bool(run)
        if not run:
            allowed = set(constraint.allowed().tolist())
            ids = tokenizer.encode(rest.decode())
            run = ids[:1] if ids[0] in allowed else tokenizer.encode(rest[:1].decode())
        spelt = grammars.bytes_of(run)
        assert rest.startswith(spelt), (rest[:40], spelt)
        rest = rest[len(spelt) :]
        constraint.take(run)
        found.append((run, forced))
    return found


def one_by_one(engine: Engine, arena: Arena, answer: list[int], constraint: Constraint | None) -> float:
    """Return the seconds of a replay without forced tokens; every token is chosen, and with a grammar looked after."""
    used, rng, greedy = engine.bundle.manifest.tokens.vocab_used, np.random.default_rng(0), Sampling.greedy()
    logits, ending = np.zeros(used, np.float32), Ending()
    begun = time.perf_counter()
    for place, token in enumerate(answer):
        choose(logits, None, greedy, [], rng)
        if constraint is not None:
            ahead = constraint.copy()
            ahead.take([token])
            ending.fits(ahead, ROOM - place)
            constraint.take([token])
        following = constraint is not None and place + 1 < len(answer)
        logits = arena.step(token, mask=constraint.mask() if constraint and following else None)[:used]
    return time.perf_counter() - begun


def as_served(engine: Engine, arena: Arena, answer: list[int], constraint: Constraint) -> float:
    """Return the seconds of a replay by the service's own loop, with logits that wish for the next token of the answer."""
    told: list[int] = []

    def feed(
        tokens: Sequence[int], ids: NDArray[np.int64] | None, mask: NDArray[np.bool_] | None
    ) -> NDArray[np.float32]:
        if list(tokens) == [BEGIN]:  # the loop asks behind the question, which is not measured
            found = np.zeros(
                engine.bundle.manifest.tokens.vocab_rows if ids is None else len(ids), np.float32
            )
        elif len(tokens) == 1:
            found = arena.step(tokens[0], ids, mask)
        else:
            rest = [token for token in tokens if token != BEGIN]
            run = embedded(engine.parts.decoder, text_piece(rest, arena.next_pos))
            found = arena.prefill(run.embeds, run.positions, run.next_pos, ids=ids, mask=mask)
        wanted = answer[len(told)]
        found[wanted if ids is None else np.searchsorted(ids, wanted)] = 1e9
        return found

    begun = time.perf_counter()
    generate(
        feed,
        [BEGIN],
        tokens=engine.bundle.manifest.tokens,
        constraint=constraint,
        max_tokens=ROOM,
        sampling=Sampling.greedy(),
        rng=np.random.default_rng(0),
        on_token=told.append,
    )
    seconds = time.perf_counter() - begun
    assert told == answer
    return seconds


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.replay", description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--depth", type=int, default=4096, help="tokens in the context before the answer")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--cache", type=Path, default=None)
    args = parser.parse_args()
    with Engine(open_bundle(args.bundle, cache=args.cache), threads=args.threads, cache=args.cache) as engine:
        start = engine.parts.grammars.constraint(model_schema(KIND))
        runs = pieces(engine, start)
        answer = [token for run, _ in runs for token in run]
        count = len(answer)
        arena = engine.parts.decoder.arena(args.depth + count + 8)
        arena.pad(args.depth)
        mark = arena.mark()
        seconds: dict[str, list[float]] = {"plain": [], "masked": [], "forced": []}
        for turn in range(args.repeat + 1):
            for name, found in seconds.items():
                if name == "forced":
                    taken = as_served(engine, arena, answer, start.copy())
                else:
                    taken = one_by_one(engine, arena, answer, start.copy() if name == "masked" else None)
                arena.rewind(mark)
                if turn:
                    found.append(taken)
    median = {name: statistics.median(found) for name, found in seconds.items()}
    report = {
        "tokens": count,
        "forced_tokens": sum(len(run) for run, forced in runs if forced),
        "depth": args.depth,
        "seconds": {name: round(value, 4) for name, value in median.items()},
        "forced_over_plain": round(median["plain"] / median["forced"], 3),
        "grammar_costs": round(float(np.median(np.array(seconds["masked"]) / seconds["plain"])) - 1, 4),
    }
    for name, value in median.items():
        sys.stdout.write(f"{name:<8}{1000 * value:9.1f} ms  {count / value:7.1f} tokens/s\n")
    sys.stdout.write(json.dumps(report) + "\n")


if __name__ == "__main__":
    main()
