"""Schemas from strangers: what cannot be taken is refused at once, and under what is taken every answer is valid and ends.

    python -m tests.faults.schemas --schemas 10000

Half of them are hostile and half of them are what askers give. Under those that are taken answers are drawn from chance
alone, at budgets from the least that each allows, and held against the schema as it was given. Prints one JSON line last;
anything broken ends it with an error.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import jsonschema
import numpy as np
import psutil
from numpy.typing import NDArray

from edge.answer.given import Given, take
from edge.errors import SchemaError
from edge.messages import DETAIL_CHARS
from edge.model.bundle import open_bundle
from edge.model.generate import generate
from edge.model.grammar import Grammars
from edge.model.manifest import TOKENIZER, Tokens
from edge.model.sampling import Sampling
from edge.model.tokenizer import Tokenizer
from edge.share import demo_bundle
from tests import asked

BUDGET_MAX = 400


def main() -> None:
    """Run the campaign."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.schemas")
    parser.add_argument("--schemas", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    sys.stdout.write(json.dumps(Campaign(args.seed).run(args.schemas)) + "\n")


class Campaign:
    """One run; everything follows from the seed."""

    def __init__(self, seed: int) -> None:
        bundle = open_bundle(demo_bundle())
        self._tokens: Tokens = bundle.manifest.tokens
        tokenizer = Tokenizer(bundle.path / TOKENIZER, self._tokens)
        self._grammars = Grammars(tokenizer, self._tokens)
        self._rng = random.Random(seed)
        self._counts: Counter[str] = Counter()
        self._slowest = {"check_ms": 0.0, "compile_ms": 0.0}

    def run(self, schemas: int) -> dict[str, Any]:
        """Try so many schemas.

        Raises:
            AssertionError: A promise was broken.
        """
        process = psutil.Process()
        before = 0
        for number in range(schemas):
            if number == schemas // 10:  # behind what is allocated once
                before = process.memory_info().rss
            if number % 2:
                self._hostile()
            else:
                self._usual()
        grown = process.memory_info().rss - before
        return {
            "schemas": schemas,
            **{
                name: self._counts[name]
                for name in ("hostile", "usual", "taken", "too_long", "answers", "closed")
            },
            **{name: round(value, 1) for name, value in self._slowest.items()},
            "grown_mib": round(grown / 2**20, 1),
        }

    def _hostile(self) -> None:
        schema = asked.hostile(self._rng)
        assert self._take(schema) is None, json.dumps(schema)
        self._counts["hostile"] += 1

    def _usual(self) -> None:
        schema = asked.usual(self._rng)
        self._counts["usual"] += 1
        given = self._take(schema)
        if given is None:
            return
        self._counts["taken"] += 1
        begun = time.perf_counter()
        constraint = self._grammars.constraint(json.loads(given.text))
        self._note("compile_ms", begun)
        least = constraint.tokens_to_end(BUDGET_MAX)
        if least is None:
            self._counts["too_long"] += 1
            return
        check = jsonschema.Draft202012Validator(schema)
        for budget in (max(1, least), self._rng.randint(max(1, least), BUDGET_MAX)):
            self._answer(given, check, budget)

    def _take(self, schema: Any) -> Given | None:
        begun = time.perf_counter()
        try:
            return take(schema)
        except SchemaError as error:
            why = error.evidence[0]
        finally:
            self._note("check_ms", begun)
        assert len(why) <= DETAIL_CHARS
        assert why.isprintable()
        return None

    def _answer(self, given: Given, check: jsonschema.Draft202012Validator, budget: int) -> None:
        chance = np.random.default_rng(self._rng.randrange(2**31))

        def feed(
            _tokens: Sequence[int], rows: NDArray[np.int64] | None, mask: NDArray[np.bool_] | None
        ) -> NDArray[np.float32]:
            said = chance.standard_normal(self._tokens.vocab_rows if rows is None else len(rows), np.float32)
            if mask is not None:
                said[: len(mask)][~mask] = -np.inf
            return said

        found = generate(
            feed,
            [0],
            tokens=self._tokens,
            constraint=self._grammars.constraint(json.loads(given.text)),
            max_tokens=budget,
            sampling=Sampling(temperature=1.0),
            rng=chance,
        )
        assert len(found.tokens) <= budget
        text = self._grammars.bytes_of(found.tokens).decode()
        check.validate(json.loads(text))
        self._counts["answers"] += 1
        self._counts["closed"] += found.finish == "closed"

    def _note(self, name: str, begun: float) -> None:
        self._slowest[name] = max(self._slowest[name], 1000 * (time.perf_counter() - begun))


if __name__ == "__main__":
    main()
