"""What the grammar allows, and that nothing it allows is refused afterwards."""

import json
import random
from datetime import UTC, datetime
from typing import Any

import jsonschema
import llguidance
import llguidance.numpy
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge import messages
from edge.answer.assemble import Author, Work, Written, assemble
from edge.answer.schema import model_schema
from edge.records import ClipPlan, ClipStats, Prompt, Size
from tests import vocabulary

KINDS = sorted(messages.BODIES)
VALIDATORS = {
    name: jsonschema.Draft202012Validator(messages.published_schema(name)) for name in messages.PUBLISHED
}
CLIP_S = 60.0


def publish(kind: str, text: str) -> dict[str, Any]:
    """Check what the model wrote; of all kinds but a watch, of which one answer holds many, assemble an answer around the model's text and read back what a subscriber receives."""
    if kind == "watch":
        return messages.WatchBody.model_validate_json(text).model_dump()
    plan = ClipPlan(
        camera="door",
        seq=3,
        clip_id=messages.clip_id("edge", "door", "epoch", 3),
        t_start=datetime(2026, 11, 1, 12, tzinfo=UTC),
        clock_synced=True,
        seconds=CLIP_S,
        fps=8.0,
        size=Size(192, 256),
        source_size=Size(480, 640),
    )
    answer = assemble(
        Written(text, (-0.1, -0.7), 100, 20, truncated=False),
        device="edge",
        plan=plan,
        stats=ClipStats(CLIP_S, 480, 480, 0, 0, 240, 0.0, (), 1.0),
        prompt=Prompt(kind, kind, "?", 320),
        author=Author("toy", "0" * 64, "int8", ""),
        work=Work(240, 1.0, 1.0, 1.0, None, None),
    )
    published: dict[str, Any] = json.loads(answer.payload())
    VALIDATORS["answer"].validate(published)
    return published


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    directory = tmp_path_factory.mktemp("toy")
    vocabulary.write(directory, "toy")
    text = (directory / "tokenizer.json").read_text(encoding="utf-8")
    return llguidance.LLTokenizer(text, n_vocab=vocabulary.TOY_SIZE)


def matcher(tokenizer: Any, schema: dict[str, Any]) -> Any:
    grammar = llguidance.LLMatcher.grammar_from_json_schema(schema, defaults={"whitespace_flexible": False})
    found = llguidance.LLMatcher(tokenizer, grammar)
    assert not found.get_error()
    assert not found.get_grammar_warnings()
    return found


def allows(tokenizer: Any, schema: dict[str, Any], text: str) -> bool:
    # Byte by byte: the tokenizer itself would read "<|im_end|>" inside a string as the end of the turn.
    tokens = [tokenizer.tokenize_bytes(bytes([byte]))[0] for byte in text.encode()]
    under = matcher(tokenizer, schema)
    return under.try_consume_tokens(tokens) == len(tokens) and bool(under.is_accepting())


def random_walk(tokenizer: Any, schema: dict[str, Any], seed: int) -> str:
    """Write what a talkative model without any sense would write: at random, mostly without closing a string."""
    choose = random.Random(seed)
    under = matcher(tokenizer, schema)
    mask = llguidance.numpy.allocate_token_bitmask(1, tokenizer.vocab_size)
    tokens: list[int] = []
    while not under.is_stopped():
        llguidance.numpy.fill_next_token_bitmask(under, mask, 0)
        bits = np.unpackbits(mask.view(np.uint8), bitorder="little")[: tokenizer.vocab_size]
        allowed = np.flatnonzero(bits).tolist()
        token = choose.choice(allowed)
        if b'"' in tokenizer.decode_bytes([token]) and choose.random() < 0.9:
            token = choose.choice(allowed)
        assert under.consume_token(token)
        tokens.append(token)
    text: bytes = tokenizer.decode_bytes([token for token in tokens if not tokenizer.is_special_token(token)])
    return text.decode()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(6))
def test_whatever_the_grammar_lets_through_becomes_a_valid_answer(
    tokenizer: Any, kind: str, seed: int
) -> None:
    publish(kind, random_walk(tokenizer, model_schema(kind, seconds=CLIP_S), seed))


def lines(limit: int) -> st.SearchStrategy[str]:
    """All that a string of the grammar can hold: no control characters, no blank in front."""
    char = st.characters(codec="utf-8", min_codepoint=0x20, exclude_characters="\x7f")
    return st.text(char, min_size=1, max_size=limit).filter(lambda text: text[0] != " ")


tenths = st.integers(0, 600).map(lambda tenth: tenth / 10)
label = lines(messages.LABEL_CHARS)
number = st.integers(0, messages.COUNT_MAX)


def ordered(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Draw an object with its keys in this order (`fixed_dictionaries` shuffles them)."""
    return st.tuples(*fields.values()).map(lambda values: dict(zip(fields, values, strict=True)))


bodies = {
    "summary": ordered(
        headline=lines(messages.HEADLINE_CHARS),
        summary=lines(messages.SUMMARY_CHARS),
        events=st.lists(
            ordered(what=lines(messages.EVENT_CHARS), start=tenths, end=tenths), max_size=messages.MAX_EVENTS
        ),
        counts=ordered(people=number, vehicles=number, animals=number),
    ),
    "watch": ordered(seen=lines(messages.SEEN_CHARS), answer=st.sampled_from(("yes", "no", "unsure"))),
    "spatial": ordered(
        headline=lines(messages.HEADLINE_CHARS),
        objects=st.lists(
            ordered(
                label=label, bbox_2d=st.lists(st.integers(0, messages.COORDINATE_MAX), min_size=4, max_size=4)
            ),
            max_size=messages.MAX_OBJECTS,
        ),
        relations=st.lists(
            ordered(subject=label, relation=label, object=label), max_size=messages.MAX_RELATIONS
        ),
    ),
    "ask": ordered(text=lines(messages.TEXT_CHARS)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_schema_and_types_agree_on_every_body(tokenizer: Any, kind: str) -> None:
    schema = model_schema(kind, seconds=CLIP_S)

    @settings(deadline=None, max_examples=40)
    @given(bodies[kind])
    def agree(body: dict[str, Any]) -> None:
        text = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
        assert allows(tokenizer, schema, text)
        publish(kind, text)

    agree()


@pytest.mark.parametrize(
    ("value", "allowed"),
    [
        ("0", True),
        ("0.1", True),
        ("59.9", True),
        ("60", True),
        ("60.1", False),  # after the clip
        ("1.25", False),  # the timestamps have one decimal
        ("-1", False),
        ("1e1", False),
        ("600", False),
    ],
)
def test_times_stay_inside_the_clip_with_one_decimal(tokenizer: Any, value: str, allowed: bool) -> None:
    text = f'{{"headline":"a","summary":"b","events":[{{"what":"c","start":0,"end":{value}}}]}}'
    assert allows(tokenizer, model_schema("summary", seconds=60.0), text) is allowed


@pytest.mark.parametrize(
    ("value", "allowed"),
    # 1024 can be written, and is flagged: where it could not, its first three digits would pass for a place.
    [
        ("0", True),
        ("1000", True),
        ("1024", True),
        ("9999", True),
        ("10000", False),
        ("1.5", False),
        ("-1", False),
    ],
)
def test_coordinates_are_whole_and_not_cut_to_the_picture(tokenizer: Any, value: str, allowed: bool) -> None:
    text = f'{{"headline":"a","objects":[{{"label":"c","bbox_2d":[0,0,{value},9]}}],"relations":[]}}'
    assert allows(tokenizer, model_schema("spatial"), text) is allowed


@pytest.mark.parametrize(
    "content",
    [
        "",
        " a",
        "a\\nb",
        "a\\u0000",
        "a\\ud83d",
        "a\x7f",
        "ä" * (messages.TEXT_CHARS + 1),
    ],
)
def test_text_without_substance_or_with_control_characters_cannot_be_written(
    tokenizer: Any, content: str
) -> None:
    assert not allows(tokenizer, model_schema("ask"), f'{{"text":"{content}"}}')


@pytest.mark.parametrize(
    "content", ["ä" * messages.TEXT_CHARS, "😀" * messages.TEXT_CHARS, 'say \\"a\\\\b\\"']
)
def test_the_limit_of_a_text_counts_characters(tokenizer: Any, content: str) -> None:
    assert allows(tokenizer, model_schema("ask"), f'{{"text":"{content}"}}')


@pytest.mark.parametrize("text", ['{"text":"a","more":1}', '{"more":1}', "{}", '{"text": "a"}', '"a"', "[]"])
def test_only_the_one_compact_object_can_be_written(tokenizer: Any, text: str) -> None:
    assert not allows(tokenizer, model_schema("ask"), text)


def test_the_headline_comes_first(tokenizer: Any) -> None:
    schema = model_schema("summary")
    assert not allows(tokenizer, schema, '{"summary":"b","headline":"a","events":[]}')
    assert allows(tokenizer, schema, '{"headline":"a","summary":"b","events":[]}')


def test_counts_may_be_left_out_and_are_never_null(tokenizer: Any) -> None:
    schema = model_schema("summary")
    body = '{"headline":"a","summary":"b","events":[]'
    assert allows(tokenizer, schema, body + "}")
    assert allows(tokenizer, schema, body + ',"counts":{"people":2,"vehicles":0,"animals":99}}')
    assert not allows(tokenizer, schema, body + ',"counts":null}')
    assert not allows(tokenizer, schema, body + ',"counts":{"people":2}}')


@pytest.mark.parametrize("seconds", [2.0, 7.25, 59.97, 600.0])
def test_odd_lengths_bound_the_times_too(tokenizer: Any, seconds: float) -> None:
    schema = model_schema("summary", seconds=seconds)
    last = schema["properties"]["events"]["items"]["properties"]["end"]["maximum"]
    assert last <= seconds < last + 0.1
    form = '{{"headline":"a","summary":"b","events":[{{"what":"c","start":0,"end":{:.1f}}}]}}'
    assert allows(tokenizer, schema, form.format(last))
    assert not allows(tokenizer, schema, form.format(last + 0.1))
