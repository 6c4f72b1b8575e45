"""JSON Schemas as masks over the vocabulary, by llguidance, and the shortest way to the end of an answer."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.errors import ModelError
from edge.model.manifest import Tokens
from edge.model.tokenizer import Tokenizer

END_TOKENS_MAX = 4096
"""More tokens than any end of our schemas takes; a schema that needs more has none."""

NUMBER_DIGITS = 6
"""Digits that `Ending` leaves room for in a number."""

# Which byte leads to the end soonest where several are allowed. Outside strings: close what is open; go on to the next
# item only where one is still owed; scalars before containers, since a recursive schema ends in a scalar.
# The highest digit first: a number that needs more digits climbs towards its upper limit and so passes the lower one,
# where 0.000... might never.
_DELIMITERS = b"]},:"
_DIGITS = b"9876543210"
_STARTS = b'"ntf.-+eE[{'
_IN_STRING = b'"'
_IN_ESCAPE = b'"n0'  # two-character escapes first; a digit inside \u0000
_CONTENT = b".- aA0"


@dataclass(frozen=True, slots=True)
class Lexical:
    """Where in JSON text we are, so far as the way to the end depends on it."""

    in_string: bool = False
    in_escape: bool = False
    digits: int = 0

    def after(self, text: bytes) -> Lexical:
        """Return the state after more bytes."""
        state = self
        for byte in text:
            if state.in_escape:
                state = replace(state, in_escape=False)
            elif state.in_string:
                state = replace(state, in_string=byte != 0x22, in_escape=byte == 0x5C)
            elif byte == 0x22:
                state = Lexical(in_string=True)
            else:
                state = Lexical(digits=state.digits + 1 if byte in b"0123456789.-+eE" else 0)
        return state


class Constraint:
    """One answer in the making under one schema: what may come next, and how far the end is.

    Llguidance works on the bytes that are still possible; which single byte is best for ending is decided here.
    """

    def __init__(self, grammars: Grammars, matcher: Any, lexical: Lexical | None = None) -> None:
        self._grammars = grammars
        self._matcher = matcher
        self._lexical = lexical or Lexical()

    @property
    def finished(self) -> bool:
        """Whether nothing but the end can follow; `ModelError` where llguidance gave up before it."""
        if self._matcher.is_stopped() and not self._matcher.is_accepting():
            raise ModelError(
                "the grammar stopped in the middle of an answer",
                evidence=[str(self._matcher.stop_reason()), self._matcher.get_error()[:400]],
                next_step="Simplify the schema.",
            )
        return bool(self._matcher.is_stopped())

    @property
    def complete(self) -> bool:
        """Whether the text so far is valid under the schema (more may be allowed, such as digits)."""
        return bool(self._matcher.is_accepting())

    def copy(self) -> Constraint:
        """Return an independent constraint in the same state."""
        return Constraint(self._grammars, self._matcher.deep_copy(), self._lexical)

    def take(self, tokens: Sequence[int]) -> None:
        """Go on by tokens that are allowed.

        Raises:
            ModelError: They are not, or the grammar's limits were met.
        """
        if tokens and not self._matcher.consume_tokens(list(tokens)):
            raise ModelError(
                "the grammar refused the model's token",
                evidence=[self._matcher.get_error()[:400]],
                next_step="This is a defect; report it with the prompt and the schema.",
            )
        self._lexical = self._lexical.after(self._grammars.bytes_of(tokens))

    def forced(self) -> list[int]:
        """Return the tokens that must come next, [] where there is a choice."""
        return [int(token) for token in self._matcher.compute_ff_tokens()]

    def mask(self) -> NDArray[np.bool_]:
        """Return for each id whether it may come next, shape (vocab_used,); end ids may where the text may end."""
        packed = np.frombuffer(self._matcher.compute_bitmask(), np.uint8)
        return np.unpackbits(packed, count=self._grammars.vocab_used, bitorder="little").view(np.bool_)

    def allowed(self) -> NDArray[np.int64]:
        """Return the ids that may come next, ascending, as `mask`."""
        return np.flatnonzero(self.mask())

    def closing(self, *, spare_digits: bool = False) -> int | None:
        """Return the token that leads to the end soonest, or None where the text may end.

        Args:
            spare_digits: Prefer digits in a number that has fewer than `NUMBER_DIGITS`, to count room for them.
        """
        if self.complete:
            return None
        for byte in self._preferred(spare_digits=spare_digits):
            token = self._grammars.token_of(byte)
            if token is not None and self._matcher.validate_tokens([token]) == 1:
                return token
        allowed = self.allowed()
        if not len(allowed):
            raise ModelError(
                "the grammar allows no token",
                evidence=[self._matcher.get_error()[:400]],
                next_step="This is a defect; report it with the schema.",
            )
        return int(allowed[0])

    def tokens_to_end(self, most: int) -> int | None:
        """Return how many tokens the shortest end takes, forced ones included, or None if it is more than ``most``."""
        way = self.way_to_end(most)
        return None if way is None else len(way)

    def way_to_end(self, most: int, *, spare_digits: bool = False) -> list[int] | None:
        """Return the tokens that lead to the end soonest, or None if they are more than ``most``.

        Args:
            most: >= 0.
            spare_digits: As for `closing`.
        """
        ahead, way = self.copy(), list[int]()
        while len(way) <= most:
            token = ahead.closing(spare_digits=spare_digits)
            if token is None:
                return way
            step = ahead.forced() or [token]
            ahead.take(step)
            way += step
        return None

    def ends_by(self, way: Sequence[int]) -> bool:
        """Say whether these tokens, in this order, are allowed and lead to where the text may end."""
        if not way:
            return self.complete  # where nothing else may follow, llguidance refuses even the end id
        whole = [*way, self._grammars.end]
        return bool(self._matcher.validate_tokens(whole) == len(whole))

    def _preferred(self, *, spare_digits: bool) -> Iterator[int]:
        state = self._lexical
        if state.in_escape:
            yield from _IN_ESCAPE
        elif state.in_string:
            yield from _IN_STRING
            yield from _CONTENT
        elif spare_digits and 0 < state.digits < NUMBER_DIGITS:
            yield from _DIGITS
            yield from b"."
            yield from _DELIMITERS
            yield from _STARTS
        else:
            yield from _DELIMITERS
            yield from _DIGITS
            yield from _STARTS


class Ending:
    """Whether an answer could still be closed in time.

    Counted with room for the digits of the numbers that must come, so that the last box of a list keeps its whole
    coordinates. That is never less than the end itself, whose numbers stop as soon as they may.

    The way to the end is looked for token by token, some twenty of them. Inside a string it is the same after every word,
    so the last one found is tried first, in one call.
    """

    def __init__(self) -> None:
        self._way: list[int] | None = None

    def fits(self, ahead: Constraint, most: int) -> bool:
        """Say whether the answer, which has come as far as ``ahead``, can be closed in ``most`` tokens."""
        if self._way is None or len(self._way) > most or not ahead.ends_by(self._way):
            self._way = ahead.way_to_end(most, spare_digits=True)
        return self._way is not None


class Grammars:
    """Constraints over one vocabulary.

    Args:
        tokenizer: The bundle's.
        tokens: Sizes of the vocabulary.
    """

    def __init__(self, tokenizer: Tokenizer, tokens: Tokens) -> None:
        self.vocab_used = tokens.vocab_used
        self.end = tokens.eos[0]
        self._tokenizer = tokenizer
        self._token_of: dict[int, int | None] = {}

    def constraint(self, schema: dict[str, Any]) -> Constraint:
        """Return a constraint at the start of an answer; white space between JSON tokens is not allowed.

        Raises:
            ModelError: The schema cannot be compiled.
        """
        from llguidance import LLMatcher

        grammar = LLMatcher.grammar_from_json_schema(
            json.dumps(schema), overrides={"whitespace_flexible": False}
        )
        matcher = LLMatcher(self._tokenizer.tables, grammar, log_level=0)
        if matcher.is_error():
            raise ModelError(
                "the JSON Schema of the answer cannot be compiled",
                evidence=[matcher.get_error()[:400]],
                next_step="Simplify the schema.",
            )
        return Constraint(self, matcher)

    def bytes_of(self, tokens: Sequence[int]) -> bytes:
        """Return the bytes that tokens spell."""
        return self._tokenizer.bytes_of(tokens)

    def token_of(self, byte: int) -> int | None:
        """Return the token that spells one ASCII byte alone, or None."""
        if byte not in self._token_of:
            found = self._tokenizer.encode(chr(byte))
            self._token_of[byte] = int(found[0]) if len(found) == 1 else None
        return self._token_of[byte]
