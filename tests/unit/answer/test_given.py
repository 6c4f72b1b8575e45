"""Schemas that askers give: what is taken holds, and what is refused is refused with its place and reason."""

from __future__ import annotations

import json
from random import Random
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.answer.given import BYTES_MAX, FORM_BYTES, read_schema, take
from edge.errors import SchemaError
from tests import asked


def refusal(schema: Any) -> str:
    with pytest.raises(SchemaError) as caught:
        take(schema)
    assert caught.value.next_step
    (line,) = caught.value.evidence
    return line


def one(schema: Any, **more: Any) -> dict[str, Any]:
    return {"type": "object", "properties": {"a": schema}, **more}


def test_the_model_is_told_the_schema_in_words() -> None:
    schema = {
        "type": "object",
        "description": "the porch",
        "properties": {
            "parcel": {"type": "boolean"},
            "colour": {"enum": ["red", "blue", None], "description": "of the  door\n"},
            "cars": {"type": "array", "maxItems": 3, "items": {"$ref": "#/$defs/car"}},
            "note": {"type": ["string", "null"], "maxLength": 40},
            "plate": {"type": "string", "pattern": "^[A-Z]{2}[0-9]{3}$"},
            "share": {"type": "number", "minimum": 0, "maximum": 0.5},
        },
        "$defs": {"car": {"properties": {"n": {"type": "integer"}}}},
    }
    assert take(schema).form == (
        'Reply in JSON: {"parcel": true or false, "colour": "red", "blue" or null (of the door), '
        '"cars": [{"n": a whole number}, at most 3], "note": text of at most 40 characters or null, '
        '"plate": text of the form ^[A-Z]{2}[0-9]{3}$, "share": a number from 0 to 0.5} (the porch).'
    )


def test_what_has_no_limit_gets_one_and_what_is_beyond_ours_is_cut_to_it() -> None:
    made = take(one({"type": "array", "items": {"type": "string"}})).grammar["properties"]["a"]
    assert (made["minItems"], made["maxItems"]) == (0, 8)
    assert made["items"]["pattern"].endswith("{0,199})?$")
    made = take(one({"type": "array", "items": {"type": "string", "maxLength": 10**6}, "maxItems": 10**6}))
    assert made.grammar["properties"]["a"]["maxItems"] == 32
    assert made.grammar["properties"]["a"]["items"]["pattern"].endswith("{0,599})?$")
    assert take(one({"type": "integer", "minimum": 10**6})).grammar["properties"]["a"]["maximum"] == 1_999_999


def test_words_for_the_model_are_cut_and_never_in_the_middle_of_a_character() -> None:
    schema = one({"enum": ["ä" * 98 + str(number) for number in range(50)]})
    with pytest.raises(SchemaError):
        take({"properties": {f"{n}" + "ä" * 40: {"type": "null"} for n in range(60)}})
    form = take(schema).form
    assert len(form.encode()) <= FORM_BYTES + 32
    assert form.endswith(" ....")


@pytest.mark.parametrize(
    ("schema", "line"),
    [
        ([], "$: it is no object"),
        ({"type": "string"}, "$: the outermost must be an object"),
        ({"type": ["object", "null"], "properties": {"a": {"type": "null"}}}, "$: the outermost must be an object"),
        (one({"type": "string", "format": "date"}), "a: format is not supported here"),
        (one({"type": "string", "canary": 1}), "a: it holds an unknown keyword"),
        (one({"type": "string", "maximum": 1}), "a: maximum does not go with the type string"),
        (one({"$ref": "https://example.com/s"}), "a: $ref stands alone and names one of the schema's own $defs"),
        (one({"$ref": "#/$defs/b"}), "a: $ref names nothing in $defs"),
        (one({"$ref": "#/$defs/b"}, **{"$defs": {"b": one({"$ref": "#/$defs/b"})}}), "a ($ref).a: $ref leads back"),
        (one({"type": "string", "pattern": "^(a+)+$"}), "a: pattern: groups and alternatives are not supported"),
        (one({"type": "string", "minLength": 3, "pattern": "^a$"}), "a: pattern allows lengths that"),
        (one(one(one({"type": "array"}))), "a.a.a: a list needs items"),
        ({"properties": {"\u001b[2J": {"type": "null"}}}, "#1: a property's name has"),
        ({"properties": {"canary <b>": {"type": "text"}}}, "#1: type must be one of"),
        (one({"type": "integer", "exclusiveMinimum": 1, "exclusiveMaximum": 2}), "a: no whole number lies between"),
        (one({"type": "array", "items": {"type": "boolean"}, "minItems": 3, "maxItems": 2}), "a: minItems is above"),
    ],
)  # fmt: skip
def test_what_is_refused_names_its_place_and_reason_and_repeats_no_words(schema: Any, line: str) -> None:
    assert refusal(schema).startswith(line)
    assert "canary" not in refusal(schema)


@pytest.mark.parametrize(
    "text",
    [b"", b"{", b"\xff", b"[" * 8000, b'{"a":' * 1600, b"1" * 5000, b"{}" + b" " * BYTES_MAX, b"nul"],
)  # fmt: skip
def test_what_is_no_json_or_too_long_is_refused(text: bytes) -> None:
    with pytest.raises(SchemaError):
        read_schema(text)


@given(st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(asked.KEYS),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(st.sampled_from(asked.KEYS) | st.text(max_size=3), inner, max_size=4),
    max_leaves=30,
))  # fmt: skip
@settings(deadline=None)
def test_whatever_is_given_it_is_taken_or_refused(schema: Any) -> None:
    try:
        made = take(schema)
    except SchemaError as error:
        assert error.evidence[0].isprintable()  # noqa: PT017 - either outcome is right
    else:
        assert json.loads(made.text) == made.grammar


@given(st.randoms(use_true_random=False))
@settings(deadline=None)
def test_a_hostile_schema_is_never_taken(rng: Random) -> None:
    schema = asked.hostile(rng)
    with pytest.raises(SchemaError):
        take(schema)


@given(st.randoms(use_true_random=False))
@settings(deadline=None)
def test_what_is_taken_was_a_schema(rng: Random) -> None:
    schema = asked.usual(rng)
    jsonschema.Draft202012Validator.check_schema(schema)
    try:
        made = take(schema)
    except SchemaError:
        return
    jsonschema.Draft202012Validator.check_schema(made.grammar)
