"""A question about a clip that is over and kept in memory: how soon the answer begins.

    python -m tests.bench.later BUNDLE [--tokens 13643] [--rounds 7]

The context is as long as a clip of 60 s at 256x192; its cache holds noise, on which the time does not depend. A free
question, a watch's question and its second look are asked in turn of one fork. The time is that until the first token that
the model is free to choose: the grammar, going back to the clip's end, and the prefill of the question and of the forced
beginning of the JSON. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

from edge.answer.prompts import check_text, prompt_from, watch_text
from edge.answer.schema import model_schema
from edge.config import PromptSettings
from edge.model.bundle import open_bundle
from edge.model.engine import Engine, Fork

QUESTION = "Is there a parcel at the door?"
RESERVE = 1024


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.later", description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--tokens", type=int, default=13_643)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=0)
    args = parser.parse_args()
    ask = prompt_from(PromptSettings(name="ask", kind="ask", text=QUESTION)).text
    asked = {"ask": ask, "watch": watch_text(QUESTION), "check": check_text(QUESTION)}
    begun_ms: dict[str, list[float]] = {name: [] for name in asked}
    whole_ms: dict[str, list[float]] = {name: [] for name in asked}
    tokens: dict[str, int] = {}
    with Engine(open_bundle(args.bundle), threads=args.threads) as engine:
        arena = engine.parts.decoder.arena(args.tokens + RESERVE)
        arena.pad(args.tokens)
        fork = Fork(engine.parts, arena, arena.mark(), "")
        for number in range(args.rounds + 1):
            for name, text in asked.items():
                begun = time.perf_counter()
                kind = "ask" if name == "ask" else "watch"
                reply = fork.ask(text, schema=model_schema(kind), max_tokens=24)
                if number:  # the first round warms up
                    took_s = time.perf_counter() - begun
                    begun_ms[name].append(1000 * (took_s - reply.decode_s))
                    whole_ms[name].append(1000 * took_s)
                tokens[name] = reply.tokens_in - args.tokens
        recipe = engine.bundle.manifest.recipe.name
    found = {
        name: {
            "question_tokens": tokens[name],
            "begins_ms": round(statistics.median(begun_ms[name]), 1),
            "slowest_ms": round(max(begun_ms[name]), 1),
            "whole_ms": round(statistics.median(whole_ms[name]), 1),
        }
        for name in asked
    }
    sys.stdout.write(
        json.dumps({"context": args.tokens, "recipe": recipe, "rounds": args.rounds, **found}) + "\n"
    )


if __name__ == "__main__":
    main()
