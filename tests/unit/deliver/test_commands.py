"""Commands: whatever arrives becomes a checked request or one refusal with a reason, and text stays text."""

from __future__ import annotations

import base64
import json
from random import Random
from typing import Any, get_args

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.deliver.commands import (
    CORRELATION_MAX_BYTES,
    PAYLOAD_MAX_BYTES,
    Bucket,
    Incoming,
    Intake,
    Refusal,
    RefusedError,
    Request,
    parse,
)
from edge.deliver.topics import RESPONSE_TOPIC_BYTES, Topics
from edge.messages import VERBS, Command, RefusalReason, command_schema, published_schema
from tests import asked

TOPICS = Topics("edgeclip", "dev")
REPLY = jsonschema.Draft202012Validator(published_schema("reply"))
CMD = "edgeclip/v1/dev/cmd/"


def intake(*cameras: str, per_minute: int = 6000) -> Intake:
    return Intake(TOPICS, device="dev", cameras=cameras or ("door",), per_minute=per_minute, now_s=0.0)


def incoming(verb: str = "ask", payload: object = None, **more: Any) -> Incoming:
    if not isinstance(payload, bytes):
        payload = json.dumps({"question": "What?"} if payload is None else payload).encode()
    return Incoming(**{"topic": CMD + verb, "payload": payload, "retain": False, **more})


def refused(message: Incoming, *cameras: str) -> tuple[str, dict[str, Any]]:
    checked = intake(*cameras).take(message, 1.0)
    assert isinstance(checked, Refusal)
    reply: dict[str, Any] = json.loads(checked.reply.payload)
    REPLY.validate(reply)
    assert (reply["status"], reply["reason"]) == ("refused", checked.reason)
    assert reply["detail"]
    return checked.reason, reply


@pytest.mark.parametrize(
    ("verb", "payload"),
    [
        ("ask", {"question": "Is there a parcel?", "id": "7", "clip": "current", "camera": "door"}),
        ("ask", {"schema": "edgeclip.command/1", "question": "q"}),
        ("analyse-now", {}),
        ("pause", {"camera": "door"}),
        ("pause", {"paused": False}),
        ("resume", {}),
        ("reload", b""),
        ("snapshot", b" \n"),
    ],
)
def test_every_verb_is_understood(verb: str, payload: object) -> None:
    checked = intake().take(incoming(verb, payload), 1.0)
    assert isinstance(checked, Request)
    assert (checked.verb, checked.cameras, checked.sender.topic) == (verb, ("door",), "edgeclip/v1/dev/reply")
    if not isinstance(payload, bytes):
        jsonschema.validate(payload, command_schema())


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (incoming("resume", {"paused": False}), "malformed"),
        (incoming("pause", {"paused": 1}), "malformed"),
        (incoming("pause", {"reply_to": "a/b"}), "malformed"),
        (incoming("pause", {"reply_to": ""}), "malformed"),
        (incoming("pause", {"reply_to": "../door/state"}), "malformed"),
        (incoming("destroy"), "unknown_verb"),
        (incoming("ask/"), "unknown_verb"),
        (incoming("../ask"), "unknown_verb"),
        (incoming("ASK"), "unknown_verb"),
        (Incoming("edgeclip/v1/dev/cmd", b"{}", retain=False), "unknown_verb"),
        (Incoming("", b"{}", retain=False), "unknown_verb"),
        (incoming(retain=True), "retained"),
        (incoming(payload=b"{" + b" " * PAYLOAD_MAX_BYTES + b"}"), "too_large"),
        (incoming(payload=b"[" * 4000), "too_deep"),
        (incoming(payload={"question": {"a": 1}}), "too_deep"),
        (incoming(payload=b"what?"), "malformed"),
        (incoming(payload=b"\xff\xfe"), "malformed"),
        (incoming(payload=b'{"question":"\\ud800"}'), "malformed"),
        (incoming(payload=[]), "malformed"),
        (incoming(payload={}), "malformed"),
        (incoming(payload={"question": "  "}), "malformed"),
        (incoming(payload={"question": "x" * 501}), "malformed"),
        (incoming(payload={"question": 1}), "malformed"),
        (incoming(payload={"question": "q", "clip": "../../etc/passwd"}), "malformed"),
        (incoming(payload={"question": "q", "camera": "a/#"}), "malformed"),
        (incoming(payload={"question": "q", "id": "a\nb"}), "malformed"),
        (incoming(payload={"question": "q", "schema": "edgeclip.command/2"}), "malformed"),
        (incoming("pause", {"camra": "door"}), "malformed"),
        (incoming("pause", {"question": "q"}), "malformed"),
        (incoming("reload", {"camera": "door"}), "malformed"),
        (incoming(payload={"question": "q", "camera": "garden"}), "unknown_camera"),
        (incoming(correlation=b"x" * (CORRELATION_MAX_BYTES + 1)), "bad_response_topic"),
    ],
)
def test_what_is_refused_says_why(message: Incoming, reason: str) -> None:
    assert refused(message)[0] == reason


@pytest.mark.parametrize("verb", ["ask", "analyse-now", "snapshot"])
def test_with_several_cameras_one_must_be_named(verb: str) -> None:
    payload = {"question": "q"} if verb == "ask" else {}
    assert refused(incoming(verb, payload), "door", "yard")[0] == "camera_needed"
    checked = intake("door", "yard").take(incoming("pause", {}), 1.0)
    assert isinstance(checked, Request)
    assert checked.cameras == ("door", "yard")  # all of them


def test_the_reply_goes_where_the_caller_wants_it_with_its_correlation_data() -> None:
    checked = intake().take(incoming(response_topic="ha/replies", correlation=b"\x00\xff"), 1.0)
    assert isinstance(checked, Request)
    reply = intake().reply(checked.sender, "ask", status="done")
    assert reply.topic == "ha/replies"
    assert base64.b64decode(json.loads(reply.payload)["correlation"]) == b"\x00\xff"
    _, refusal = refused(incoming("nonsense", response_topic="ha/replies", correlation=b"7"))
    assert base64.b64decode(refusal["correlation"]) == b"7"


@pytest.mark.parametrize(
    "topic",
    [
        *(
            "+",
            "a/#",
            "$SYS/broker",
            "$share/g/t",
            "a\0b",
            "a\nb",
            "\ud800",
            "x" * (RESPONSE_TOPIC_BYTES + 1),
        ),
        *(
            CMD + "pause",
            "edgeclip/v1/dev/door/summary",
            "edgeclip/v1/dev/health",
            "edgeclip/v1/dev/replying",
        ),
        *("edgeclip/v1/other/cmd/pause", "edgeclip/v1/other/reply"),
    ],
)
def test_no_reply_goes_to_a_wildcard_or_into_a_devices_own_branch(topic: str) -> None:
    checked = intake().take(incoming(response_topic=topic), 1.0)
    assert isinstance(checked, Refusal)
    assert (checked.reason, checked.reply.topic) == ("bad_response_topic", TOPICS.reply())
    for own in ("edgeclip/v1/dev/reply", "edgeclip/v1/dev/reply/me", "edgeclip/answers", "me"):
        assert TOPICS.may_reply_on(own)


def test_a_misspelt_key_is_not_repeated_in_the_reply() -> None:
    _, reply = refused(incoming(payload={"question": "q", "<script>": 1}))
    assert reply["detail"] == "unknown key"


def test_a_flood_is_refused_before_it_is_parsed_and_the_bucket_fills_again() -> None:
    desk = intake(per_minute=60)
    taken = [desk.take(incoming(), 1.0) for _ in range(100)]
    assert sum(isinstance(one, Request) for one in taken) == 60
    assert {one.reason for one in taken if isinstance(one, Refusal)} == {"rate_limited"}
    huge = desk.take(incoming(payload=b"[" * 10**6, response_topic="a/#"), 1.0)
    assert isinstance(huge, Refusal)
    assert (huge.reason, huge.reply.topic) == ("rate_limited", TOPICS.reply())
    assert isinstance(desk.take(incoming(), 2.01), Request)
    assert isinstance(desk.take(incoming(), 2.02), Refusal)


@given(st.lists(st.floats(0, 100), max_size=200), st.integers(1, 100))
def test_no_bucket_gives_more_than_it_holds_and_gets(gaps: list[float], per_minute: int) -> None:
    bucket, now_s, taken = Bucket(per_minute, 0.0), 0.0, 0
    for gap in gaps:
        now_s += gap
        taken += bucket.take(now_s)
    assert taken <= per_minute * (1 + now_s / 60) + 1e-6


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
NEAR = st.dictionaries(  # almost a command
    st.sampled_from(["question", "camera", "clip", "id", "schema", "verb"]),
    JSON | st.just("door"),
    max_size=4,
)


@settings(deadline=None, max_examples=400)
@given(
    verb=st.sampled_from(VERBS) | st.text(max_size=20),
    payload=st.binary(max_size=200) | (JSON | NEAR).map(lambda value: json.dumps(value).encode()),
    retain=st.booleans(),
    response_topic=st.just("") | st.text(max_size=40),
    correlation=st.binary(max_size=300),
)
def test_anything_at_all_is_a_request_or_one_valid_refusal(
    verb: str, payload: bytes, *, retain: bool, response_topic: str, correlation: bytes
) -> None:
    message = Incoming(CMD + verb, payload, retain, response_topic, correlation)
    checked = intake("door", "yard").take(message, 1.0)
    if isinstance(checked, Request):
        assert checked.verb == verb
        assert set(checked.cameras) <= {"door", "yard"}
        return
    assert checked.reason in get_args(RefusalReason)
    assert checked.reply.topic in (TOPICS.reply(), response_topic)
    assert TOPICS.may_reply_on(checked.reply.topic)
    assert len(checked.reply.payload) < 2000
    REPLY.validate(json.loads(checked.reply.payload))


@settings(deadline=None)
@given(st.text(min_size=1, max_size=500).filter(lambda text: bool(text.strip()) and text.isprintable()))
def test_a_question_arrives_as_it_was_asked(question: str) -> None:
    assert parse(json.dumps({"question": question}).encode()) == Command(question=question)


@given(st.text(max_size=100))
def test_brackets_inside_a_string_are_no_depth(text: str) -> None:
    payload = json.dumps({"question": "x" + text + '[{"\\'}).encode()
    assert parse(payload).question == "x" + text + '[{"\\'


@given(st.randoms(use_true_random=False))
@settings(deadline=None)
def test_a_schema_arrives_as_it_was_given(rng: Random) -> None:
    schema = asked.usual(rng)
    for payload in (
        json.dumps({"question": "q", "answer_schema": schema}),
        json.dumps({"answer_schema": schema}),
    ):
        assert parse(payload.encode()).answer_schema == schema


@pytest.mark.parametrize(
    "payload",
    [
        '{"question": [[]]}',
        '{"answer_schema": {}, "camera": {"a": 1}}',
        '{"question": "answer_schema", "camera": {}}',
        '{"question": "q", "answer_schema": ' + '{"items":' * 40 + "1" + "}" * 41,
        '{"question": "q", "answer_schem\\u0061": {}}',
        "[[]]",
    ],
)
def test_only_a_schema_may_be_nested_and_not_without_end(payload: str) -> None:
    with pytest.raises(RefusedError) as caught:
        parse(payload.encode())
    assert caught.value.reason == "too_deep"


def test_a_caller_without_response_topics_names_where_it_wants_its_reply() -> None:
    mine = incoming("ask", {"question": "q", "reply_to": "kitchen-2"})
    checked = intake().take(mine, 1.0)
    assert isinstance(checked, Request)
    assert checked.sender.topic == "edgeclip/v1/dev/reply/kitchen-2"
    refusal = intake().take(incoming("ask", {"question": "q", "reply_to": "me", "camera": "yard"}), 1.0)
    assert isinstance(refusal, Refusal)
    assert refusal.reply.topic == "edgeclip/v1/dev/reply/me"
    both = intake().take(incoming("ask", {"question": "q", "reply_to": "me"}, response_topic="a/b"), 1.0)
    assert isinstance(both, Request)
    assert both.sender.topic == "a/b"
