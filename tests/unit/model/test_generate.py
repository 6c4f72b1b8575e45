"""The decoding loop under made-up logits: whatever the model wants to say, the answer is complete and within its budget."""

import json
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from numpy.typing import NDArray

from edge.answer.schema import model_schema
from edge.errors import ModelError
from edge.messages import BODIES
from edge.model.generate import Generated, budget, generate
from edge.model.grammar import Constraint, Ending, Grammars
from edge.model.sampling import Sampling
from edge.model.tokenizer import Tokenizer
from tests.unit.model import example

TOKENS = example.manifest().tokens
EOS = TOKENS.eos[0]

SCHEMAS: dict[str, dict[str, Any]] = {
    **{f"answer {kind}": model_schema(kind) for kind in BODIES},
    **{f"body {kind}": BODIES[kind].model_json_schema() for kind in BODIES},
    "endless fraction": {"type": "number", "minimum": 0, "maximum": 1},
    "endless integer": {"type": "integer"},
    "number above zero": {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
    "narrow number": {"type": "number", "minimum": 0.4375, "maximum": 0.4385},
    "tenths in a list": {
        "type": "array",
        "items": {"type": "number", "minimum": -5, "maximum": 5, "multipleOf": 0.1},
        "minItems": 3,
    },
    "endless list": {"type": "array", "items": {"type": "string"}},
    "endless string": {"type": "string", "minLength": 3},
    "words": {"enum": ["left", "right", "above"]},
    "code": {"type": "string", "pattern": "^[A-Z]{2}-[0-9]{4}$"},
    "optional": {
        "type": "object",
        "properties": {"a": {"type": "boolean"}, "b": {"type": ["null", "string"]}, "c": {"const": 7}},
        "required": ["a"],
        "additionalProperties": False,
    },
    "recursive": {
        "$defs": {
            "node": {
                "type": "object",
                "properties": {
                    "name": {"type": "string", "maxLength": 9},
                    "under": {"type": "array", "items": {"$ref": "#/$defs/node"}},
                    "next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]},
                },
                "required": ["name", "under", "next"],
                "additionalProperties": False,
            }
        },
        "$ref": "#/$defs/node",
    },
}


@pytest.fixture(scope="module")
def grammars(tokenizer: Tokenizer) -> Grammars:
    return Grammars(tokenizer, TOKENS)


class Talker:
    """A model that says nothing in particular: noise, plus a liking for some tokens."""

    def __init__(self, seed: int, liked: Sequence[int], strength: float) -> None:
        self._rng = np.random.default_rng(seed)
        self._liking = np.zeros(TOKENS.vocab_rows, np.float32)
        self._liking[list(liked)] = strength
        self._liking[TOKENS.vocab_used :] = 1e6  # padding rows shout
        self.heard: list[int] = []
        self.asked: list[int] = []  # how many logits

    def __call__(
        self, tokens: Sequence[int], ids: NDArray[np.int64] | None, mask: NDArray[np.bool_] | None
    ) -> NDArray[np.float32]:
        assert len(tokens)
        self.heard += tokens
        noise = self._rng.normal(0, 3, TOKENS.vocab_rows).astype(np.float32)
        said: NDArray[np.float32] = noise + self._liking
        self.asked.append(TOKENS.vocab_used if ids is None else len(ids))
        if mask is not None:
            said[: len(mask)][~mask] = -np.inf
        return said if ids is None else said[ids]


def run(
    talker: Talker,
    grammars: Grammars | None,
    schema: dict[str, Any] | None,
    max_tokens: int,
    *,
    sampling: Sampling | None = None,
    on_token: Callable[[int], None] | None = None,
) -> Generated:
    constraint = grammars.constraint(schema) if grammars is not None and schema is not None else None
    return generate(
        talker,
        [1, 2, 3],
        tokens=TOKENS,
        constraint=constraint,
        max_tokens=max_tokens,
        sampling=sampling or Sampling(temperature=1.5),
        rng=np.random.default_rng(0),
        on_token=on_token,
    )


def spelled(tokenizer: Tokenizer, characters: str) -> list[int]:
    """The tokens whose text holds one of the characters."""
    return [
        token
        for token in range(TOKENS.vocab_used)
        if any(character in tokenizer.decode([token]) for character in characters)
    ]


def validate(text: str, schema: dict[str, Any]) -> None:
    """Check in decimal arithmetic: in binary 4.3 is no multiple of 0.1."""
    exact = json.loads(json.dumps(schema), parse_float=Decimal)
    Draft202012Validator(exact).validate(json.loads(text, parse_float=Decimal))


@pytest.mark.parametrize("name", SCHEMAS)
@given(data=st.data())
@settings(deadline=None, max_examples=25)
def test_an_answer_under_a_schema_is_always_whole_and_valid(
    tokenizer: Tokenizer, grammars: Grammars, name: str, data: st.DataObject
) -> None:
    schema = SCHEMAS[name]
    max_tokens = data.draw(st.one_of(st.integers(1, 40), st.integers(1, 400)), label="max_tokens")
    liked = data.draw(
        st.sampled_from(["", "0", "3.", "-9e", "{[", ",", "aé", "\\", "🙂", '"', "}]"]), label="liked"
    )
    strength = data.draw(st.sampled_from([0.0, 4.0, 50.0]), label="strength")
    sampling = Sampling(temperature=data.draw(st.sampled_from([0.0, 1.0, 5.0]), label="temperature"))
    talker = Talker(data.draw(st.integers(0, 999), label="seed"), spelled(tokenizer, liked), strength)
    found = run(talker, grammars, schema, max_tokens, sampling=sampling)
    text = tokenizer.decode(found.tokens)
    validate(text, schema)
    assert len(found.tokens) <= budget(grammars.constraint(schema), max_tokens)
    assert found.finish in {"stop", "closed"}
    assert len(found.logprobs) <= len(found.tokens) + 1
    assert not set(found.tokens) & set(TOKENS.eos)
    if kind := name.removeprefix("answer ") if name.startswith("answer ") else "":
        BODIES[kind].model_validate_json(text)


@pytest.mark.parametrize("kind", BODIES)
def test_a_budget_below_the_shortest_answer_is_exceeded_by_no_more_than_that(
    tokenizer: Tokenizer, grammars: Grammars, kind: str
) -> None:
    schema = model_schema(kind)
    shortest = budget(grammars.constraint(schema), 1)
    found = run(Talker(0, tokenizer.encode("a"), 50.0), grammars, schema, 1)
    BODIES[kind].model_validate_json(tokenizer.decode(found.tokens))
    assert len(found.tokens) == shortest < 40
    assert found.finish == "closed"


def test_an_answer_that_fits_is_the_models_own(tokenizer: Tokenizer, grammars: Grammars) -> None:
    liked = spelled(tokenizer, '"')
    found = run(Talker(0, liked, 50.0), grammars, model_schema("ask"), 200)
    assert found.finish == "stop"
    assert found.logprobs


def test_the_last_box_keeps_its_whole_coordinates(tokenizer: Tokenizer, grammars: Grammars) -> None:
    """With a liking for 9 every coordinate wants three digits; none is cut short to save tokens."""
    schema = model_schema("spatial")
    nine = tokenizer.encode("9")[0]
    for max_tokens in range(60, 140):
        found = run(Talker(max_tokens, [nine, *spelled(tokenizer, "{")], 50.0), grammars, schema, max_tokens)
        objects = json.loads(tokenizer.decode(found.tokens))["objects"]
        assert all(value > 99 for entry in objects for value in entry["bbox_2d"]), objects


def test_a_way_to_the_end_is_allowed_and_leads_there(tokenizer: Tokenizer, grammars: Grammars) -> None:
    for schema in SCHEMAS.values():
        start = grammars.constraint(schema)
        way = start.way_to_end(400)
        assert way is not None
        assert start.ends_by(way)
        assert not start.ends_by(way[:-1])
        assert not start.ends_by([*way, *tokenizer.encode("}")])
        start.take(way)
        assert start.complete
        assert start.ends_by([])


@pytest.mark.parametrize("name", SCHEMAS)
@given(data=st.data())
@settings(deadline=None, max_examples=10)
def test_what_ending_remembers_changes_no_answer(
    name: str, data: st.DataObject, grammars: Grammars, tokenizer: Tokenizer
) -> None:
    """Asked anew after every token, or with the last way tried first: the same may be afforded."""
    seed = data.draw(st.integers(0, 10_000))
    found = run(Talker(seed, spelled(tokenizer, '",1'), 4.0), grammars, SCHEMAS[name], 120)
    constraint, ending = grammars.constraint(SCHEMAS[name]), Ending()
    for place, token in enumerate(found.tokens):
        constraint.take([token])
        for most in range(0, 120 - place, 7):
            assert ending.fits(constraint, most) == Ending().fits(constraint, most)


def test_inside_a_string_the_way_to_the_end_is_looked_for_once(
    tokenizer: Tokenizer, grammars: Grammars, monkeypatch: pytest.MonkeyPatch
) -> None:
    walks: list[int] = []
    walk = Constraint.way_to_end

    def counted(self: Constraint, most: int, *, spare_digits: bool = False) -> list[int] | None:
        walks.append(most)
        return walk(self, most, spare_digits=spare_digits)

    monkeypatch.setattr(Constraint, "way_to_end", counted)
    constraint, ending = grammars.constraint(model_schema("summary")), Ending()
    constraint.take(tokenizer.encode('{"headline":"A'))
    for token in tokenizer.encode(" man walks slowly past the shop and waits at the door"):
        constraint.take([token])
        assert ending.fits(constraint, 60)
    assert len(walks) == 1
    assert not ending.fits(constraint, 3)
    assert ending.fits(constraint, 60)


def test_forced_tokens_are_no_free_choices(tokenizer: Tokenizer, grammars: Grammars) -> None:
    told: list[int] = []
    talker = Talker(0, [], 0)
    schema = {"const": {"always": ["the", "same"]}}
    found = run(talker, grammars, schema, 100, on_token=told.append)
    assert json.loads(tokenizer.decode(found.tokens)) == schema["const"]
    assert found.logprobs == ()
    assert talker.heard == []  # nothing was left to choose, so the model was not run
    assert told == list(found.tokens)


def test_the_model_hears_the_question_and_every_token_before_it_chooses(grammars: Grammars) -> None:
    talker = Talker(3, [], 0)
    found = run(talker, grammars, model_schema("ask"), 60)
    assert talker.heard == [1, 2, 3, *found.tokens][: len(talker.heard)]


def test_where_few_tokens_are_allowed_only_their_logits_are_asked_for(grammars: Grammars) -> None:
    talker = Talker(3, [], 0)
    run(talker, grammars, {"type": "array", "items": {"enum": [17, 25]}, "minItems": 2, "maxItems": 2}, 60)
    assert talker.asked  # a digit, or the second one of two
    assert max(talker.asked) <= 2
    talker = Talker(3, [], 0)
    run(talker, grammars, {"type": "string"}, 20)
    assert max(talker.asked) == TOKENS.vocab_used


def test_free_text_ends_with_the_budget_or_either_end_id() -> None:
    found = run(Talker(0, [], 0), None, None, 20)
    assert (len(found.tokens), found.finish) == (20, "length")
    assert len(found.logprobs) == 20
    for eos in TOKENS.eos:
        found = run(Talker(0, [eos], 50.0), None, None, 20)
        assert (found.tokens, found.finish, len(found.logprobs)) == ((), "stop", 1)


def test_padding_is_never_chosen() -> None:
    found = run(Talker(1, [], 0), None, None, 50)
    assert max(found.tokens) < TOKENS.vocab_used


@pytest.mark.parametrize("special", ["<|endoftext|>", "<|im_end|>", "<|vision_end|>", "<tool_call>"])
def test_only_the_end_ids_can_end_an_answer_early(
    tokenizer: Tokenizer, grammars: Grammars, special: str
) -> None:
    token = tokenizer.encode(special)[0]
    found = run(Talker(0, [token], 100.0), grammars, {"type": "number"}, 30)
    assert token not in found.tokens
    json.loads(tokenizer.decode(found.tokens))


def test_a_schema_that_cannot_be_used_is_a_model_error(grammars: Grammars) -> None:
    with pytest.raises(ModelError, match="cannot be compiled"):
        grammars.constraint({"type": "strin"})
    with pytest.raises(ModelError, match="no short end"):
        budget(grammars.constraint({"type": "string", "minLength": 5000}), 10)
    with pytest.raises(ModelError, match="at least one token"):
        budget(None, 0)


def test_a_token_against_the_grammar_is_an_error_and_no_end(tokenizer: Tokenizer, grammars: Grammars) -> None:
    constraint = grammars.constraint(model_schema("ask"))
    with pytest.raises(ModelError, match="refused"):
        constraint.take(tokenizer.encode("no JSON"))
    with pytest.raises(ModelError, match="in the middle of an answer"):
        assert constraint.finished
