"""Token probabilities, folded along the JSON text."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.answer.confidence import Chances, values

TEXT = b'{"headline":"a \\"b\\"","events":[],"objects":[{"label":"c,","bbox_2d":[1,22,333,4]},{"label":"d","bbox_2d":[5,6,7,8]}]}'


def by_byte(text: bytes, chances: dict[bytes, float]) -> Chances:
    """Make every byte a token; those of a part of the text were chosen with a probability, the rest was forced."""
    logprobs: list[float | None] = [None] * len(text)
    for part, chance in chances.items():
        at = text.index(part)
        logprobs[at : at + len(part)] = [math.log(chance)] * len(part)
    return Chances([text[i : i + 1] for i in range(len(text))], logprobs)


def test_each_field_has_the_probability_of_its_own_tokens() -> None:
    chances = by_byte(TEXT, {b"a ": 0.25, b"c,": 0.5, b"22": 0.5, b"333": 0.1, b'"d"': 1.0})
    assert chances.words("headline") == pytest.approx(0.25)
    assert chances.words("objects", 0, "label") == pytest.approx(0.5)
    assert chances.words("objects", 1, "label") == 1.0
    assert chances.number("objects", 0, "bbox_2d", 1) == pytest.approx(0.25)
    assert chances.numbers("objects", 0, "bbox_2d") == pytest.approx(math.sqrt(0.25 * 0.001), abs=1e-4)


def test_what_was_forced_has_no_probability() -> None:
    chances = by_byte(TEXT, {})
    assert chances.words("headline") is None
    assert chances.numbers("objects", 1, "bbox_2d") is None
    assert chances.number("nothing", "of", "the", "kind") is None


def test_a_token_belongs_to_the_field_in_which_it_begins() -> None:
    pieces = [b'{"a":', b'"x', b'","b":', b"1", b"2}"]
    chances = Chances(pieces, [None, math.log(0.5), math.log(0.1), math.log(0.5), math.log(0.5)])
    assert chances.words("a") == pytest.approx(
        math.sqrt(0.05), abs=1e-4
    )  # its closing quote is a choice as well
    assert chances.number("b") == pytest.approx(0.25)


def flat(value: Any, path: tuple[str | int, ...] = ()) -> dict[tuple[str | int, ...], Any]:
    if isinstance(value, dict):
        return {k: v for name, each in value.items() for k, v in flat(each, (*path, name)).items()}
    if isinstance(value, list):
        return {k: v for at, each in enumerate(value) for k, v in flat(each, (*path, at)).items()}
    return {path: value}


plain = st.text(st.characters(codec="utf-8", exclude_characters='"\\', min_codepoint=0x20), max_size=4)
trees = st.recursive(
    st.text(max_size=6) | st.integers(-99, 9999) | st.booleans() | st.none(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(plain, inner, max_size=3),
    max_leaves=12,
)


@settings(deadline=None, max_examples=150)
@given(trees)
def test_every_value_of_any_json_is_found_where_it_stands(tree: Any) -> None:
    text = json.dumps(tree, ensure_ascii=False, separators=(",", ":")).encode()
    found = {path: json.loads(text[begin:end]) for path, begin, end in values(text)}
    assert found == flat(tree)


@given(st.binary(max_size=40))
def test_what_is_no_json_ends_quietly(text: bytes) -> None:
    for _, begin, end in values(text):
        assert 0 <= begin < end <= len(text)
