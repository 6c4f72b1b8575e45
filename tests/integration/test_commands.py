"""Commands against the running service, from clients that are not ours: every one is answered once, and time stays whole."""

from __future__ import annotations

import asyncio
import base64
import json
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiomqtt
import jsonschema
import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from PIL import Image

from edge.config import MqttSettings
from edge.deliver.commands import REPLIES
from edge.deliver.mqtt import Publisher
from edge.deliver.outbox import Outbox, Outgoing
from edge.deliver.topics import Topics
from edge.messages import published_schema
from edge.share import demo_bundle
from tests import needs
from tests.broker import Mosquitto, Received, Subscriber, eventually
from tests.media import film, steady
from tests.service import EDGE, Heard, Service

OFTEN = "[commands]\nper_minute = 600\n"
DEVICE = "edgeclip/v1/d"
OPEN = {
    "type": "object",
    "properties": {"open": {"type": "boolean"}, "which": {"enum": ["gate", "door", None]}},
    "required": ["open"],
}
REPLY = jsonschema.Draft202012Validator(published_schema("reply"))


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    needs.program("mosquitto", "mosquitto")
    needs.program("mosquitto_rr", "mosquitto-clients")
    with Mosquitto(tmp_path_factory.mktemp("broker")) as mosquitto:
        yield mosquitto


@pytest.fixture(scope="module")
def reel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """5.5 s at 8 pictures a second."""
    return film(tmp_path_factory.mktemp("film") / "reel.mp4", steady(44, fps=8))


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory, reel: Path) -> Iterator[Mosquitto]:
    """The broker of a service whose model spends half of its time on answers; it has answered a clip."""
    needs.program("mosquitto_rr", "mosquitto-clients")
    slow = {"STAND_IN_ANSWER_S": "0.5"}
    directory = tmp_path_factory.mktemp("busy")
    with (
        Mosquitto(directory / "broker") as broker,
        Service(directory, broker, looping(reel), more=OFTEN, env=slow) as service,
    ):
        service.wait_for("clip 0 is answered")
        yield broker
        assert service.end() == 0


@dataclass
class Running:
    """A service that has answered a clip, its broker and its configuration."""

    service: Service
    broker: Mosquitto
    config: Path


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, reel: Path) -> Iterator[Running]:
    """For several tests, which leave the configuration as it was."""
    needs.program("mosquitto_rr", "mosquitto-clients")
    directory = tmp_path_factory.mktemp("running")
    with Mosquitto(directory / "broker") as broker, Service(directory, broker, looping(reel)) as service:
        service.wait_for("clip 0 is answered")
        yield Running(service, broker, directory / "edge.toml")
        assert service.end() == 0
    row = service.coverage()
    assert row.answered_s + row.partial_s + row.skipped_s == pytest.approx(row.total_s)


@pytest.fixture
def received(broker: Mosquitto) -> Iterator[Callable[[], list[Received]]]:
    """What a subscriber was sent during this test."""
    with Subscriber(broker, f"{DEVICE}/#") as subscriber:
        yield lambda: [item for item in subscriber.received if not item.retain]


def call(broker: Mosquitto, verb: str, payload: str = "", *more: str) -> dict[str, Any]:
    """Send a command with mosquitto_rr (MQTT 5) and return the reply.

    On a topic of its own: mosquitto_rr takes the first message it is sent, another caller's too.
    """
    replies = f"caller/replies/{uuid.uuid4()}"
    done = subprocess.run(
        [
            *("mosquitto_rr", "-V", "5", "-h", broker.host, "-p", str(broker.port), "-q", "1", "-W", "60"),
            *("-t", f"{DEVICE}/cmd/{verb}", "-e", replies, "-m", payload or "{}", *more),
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    reply: dict[str, Any] = json.loads(done.stdout)
    REPLY.validate(reply)
    return reply


def until_seen(broker: Mosquitto, verb: str, payload: str = "") -> dict[str, Any]:
    """Ask about the clip in hand until the model has seen some of one."""
    while (reply := call(broker, verb, payload))["status"] == "refused":
        assert reply["reason"] == "no_clip"
        time.sleep(0.1)
    assert reply["status"] == "done"
    return reply


def send(broker: Mosquitto, verb: str, payload: str, *more: str) -> None:
    subprocess.run(
        [
            *("mosquitto_pub", "-h", broker.host, "-p", str(broker.port), "-q", "1"),
            *("-t", f"{DEVICE}/cmd/{verb}", "-m", payload, *more),
        ],
        check=True,
    )


def replies(items: list[Received]) -> list[dict[str, Any]]:
    found = [json.loads(item.payload) for item in items if item.topic == f"{DEVICE}/reply"]
    for reply in found:
        REPLY.validate(reply)
    return found


def looping(reel: Path, *names: str) -> dict[str, dict[str, object]]:
    return {name: {"source": str(reel), "loop": True} for name in names or ("cam",)}


def test_mosquitto_rr_gets_an_answer_about_the_last_clip_and_about_the_one_in_hand(busy: Mosquitto) -> None:
    reply = call(busy, "ask", '{"question": "Is there a parcel? <|im_end|>", "id": "q-1"}')
    assert (reply["status"], reply["command_id"], reply["camera"]) == ("done", "q-1", "cam")
    (answer,) = reply["answers"]
    assert answer["text"].startswith("Is there a parcel? <|im_end|>")
    assert (answer["prompt"], answer["status"]) == ("ask", "answered")
    current = until_seen(busy, "ask", '{"question": "And now?", "clip": "current"}')["answers"]
    assert [one["status"] for one in current] == ["partial"]
    assert current[0]["seq"] > answer["seq"]


def test_a_question_may_bring_a_schema_and_one_that_cannot_be_used_is_refused_with_its_reason(
    busy: Mosquitto,
) -> None:
    (answer,) = call(busy, "ask", json.dumps({"question": "How many?", "answer_schema": OPEN}))["answers"]
    assert answer["result"] == {"pairs": answer["provenance"]["pairs"]}
    away = {"properties": {"a": {"$ref": "http://127.0.0.1/schema"}}}
    reply = call(busy, "ask", json.dumps({"question": "How many?", "answer_schema": away}))
    assert (reply["status"], reply["reason"]) == ("refused", "bad_schema")
    assert reply["detail"].startswith("a: $ref")
    assert call(busy, "pause", json.dumps({"answer_schema": OPEN}))["reason"] == "malformed"


def test_who_waits_for_a_busy_model_is_told_how_long(busy: Mosquitto) -> None:
    with ThreadPoolExecutor(3) as pool:  # at once: all but the first wait for another's answer
        waits = list(pool.map(lambda _: call(busy, "ask", '{"question": "q"}')["waited_s"], range(3)))
    assert min(waits) >= 0
    assert sorted(waits)[1] > 0


def test_aiomqtt_gets_an_answer_with_its_correlation_data(busy: Mosquitto) -> None:
    async def ask() -> tuple[dict[str, Any], bytes]:
        async with aiomqtt.Client(
            busy.host, busy.port, protocol=aiomqtt.ProtocolVersion.V5, identifier="caller"
        ) as client:
            await client.subscribe("caller/answers", qos=1)
            properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
            properties.ResponseTopic = "caller/answers"
            properties.CorrelationData = b"\x00\x01\xff"
            await client.publish(
                f"{DEVICE}/cmd/ask", json.dumps({"question": "What?"}), qos=1, properties=properties
            )
            async for message in client.messages:
                assert isinstance(message.payload, bytes)
                return json.loads(message.payload), getattr(message.properties, "CorrelationData", b"")
        raise AssertionError

    reply, correlation = asyncio.run(asyncio.wait_for(ask(), 60))
    REPLY.validate(reply)
    assert (reply["status"], correlation) == ("done", b"\x00\x01\xff")
    assert base64.b64decode(reply["correlation"]) == correlation


def test_the_real_model_answers_a_question_and_the_clips_go_on(
    tmp_path: Path, broker: Mosquitto, reel: Path, received: Callable[[], list[Received]]
) -> None:
    (tmp_path / "bundle").symlink_to(demo_bundle())
    frugal = '[[prompt]]\nname = "summary"\nkind = "summary"\nmax_tokens = 48\n' + OFTEN + "max_tokens = 32\n"
    with Service(tmp_path, broker, looping(reel), more=frugal, command=EDGE) as service:
        service.wait_for("is answered")
        reply = call(broker, "ask", '{"question": "What is there?"}')
        assert reply["status"] == "done", reply
        assert reply["answers"][0]["kind"] == "ask"
        reply = call(broker, "ask", json.dumps({"question": "Is it open?", "answer_schema": OPEN}))
        assert reply["status"] == "done", reply
        jsonschema.Draft202012Validator(OPEN).validate(reply["answers"][0]["result"])
        long = {"properties": {"a": {"type": "string", "minLength": 60}}, "required": ["a"]}
        reply = call(broker, "ask", json.dumps({"question": "What?", "answer_schema": long}))
        assert (reply["status"], reply["answers"]) == ("failed", [])
        assert "longer answer" in reply["detail"]
        reply = until_seen(broker, "analyse-now")
        assert [one["prompt"] for one in reply["answers"]] == ["summary"]
        assert reply["answers"][0]["status"] == "partial"
        service.wait_for("is answered", times=4)
        assert service.end() == 0
    got = Heard(item for item in received() if not item.topic.endswith("/reply"))
    got.assert_whole()
    assert {clip["status"] for clip in got.clips()[:4]} == {"answered"}
    assert reply["answers"][0]["id"] not in [answer["id"] for answer in got.answers]


def test_a_question_that_kills_the_model_fails_once_and_costs_no_clip(running: Running) -> None:
    for _ in range(2):  # as often as a clip may fail
        reply = call(running.broker, "ask", '{"question": "die"}')
        assert (reply["status"], reply["answers"]) == ("failed", [])
    running.service.wait_for("is answered", times=running.service.log.count("is answered") + 2)
    assert "is skipped" not in running.service.log
    assert len(running.service.pids("inference")) == 3


def test_paused_time_is_announced_survives_a_restart_and_stays_accounted_for(
    tmp_path: Path, broker: Mosquitto, reel: Path, received: Callable[[], list[Received]]
) -> None:
    sources = looping(reel, "cam")
    with Service(tmp_path, broker, sources) as service:
        service.wait_for("clip 0 is answered")
        time.sleep(0.7)  # into the next clip
        assert call(broker, "pause", '{"camera": "cam"}')["status"] == "done"
        service.wait_for("skipped: paused")
        assert call(broker, "analyse-now")["reason"] == "paused"
        assert service.end() == 0
    with Service(tmp_path, broker, sources) as service:
        service.wait_for("camera cam is still paused")
        service.wait_for("skipped: paused")
        assert call(broker, "resume")["status"] == "done"
        service.wait_for("is answered")
        assert service.end() == 0
    got = Heard(item for item in received() if not item.topic.endswith("/reply"))
    clips = got.clips()
    assert [clip["seq"] for clip in clips] == list(range(len(clips)))
    assert sum(clip.get("reason") == "paused" for clip in clips) >= 2
    gaps = [gap for clip in clips for gap in clip.get("gaps", [])]
    assert "paused" in {gap["reason"] for gap in gaps}  # the clips in which it began and ended
    assert any(health["cameras"][0]["paused"] for health in got.health)
    assert got.health[-1]["coverage"]["percent"] == 100
    assert not got.health[-1]["cameras"][0]["paused"]
    row = service.coverage()
    assert row.answered_s + row.partial_s + row.skipped_s == pytest.approx(row.total_s)


def test_reload_applies_what_it_can_names_the_rest_and_keeps_everything_when_the_file_is_wrong(
    running: Running,
) -> None:
    broker, config = running.broker, running.config
    good = config.read_text(encoding="utf-8")
    config.write_text(good + "[clip\n", encoding="utf-8")
    reply = call(broker, "reload")
    assert (reply["status"], reply["applied"]) == ("failed", [])
    assert any("TOML" in problem for problem in reply["problems"])
    config.write_text(good + "[nonsense]\n[backlog]\nclips = 0\n", encoding="utf-8")
    assert len(call(broker, "reload")["problems"]) == 3
    count = '[[prompt]]\nname = "count"\nkind = "ask"\ntext = "How many?"\n[commands]\nper_minute = 60\n'
    config.write_text(good.replace("seconds = 2.0", "seconds = 4.0") + count, encoding="utf-8")
    reply = call(broker, "reload")
    assert (reply["status"], reply["applied"], reply["restart_needed"]) == (
        "done",
        ["prompt", "commands.per_minute"],
        ["clip"],
    )
    with Subscriber(broker, f"{DEVICE}/cam/count") as subscriber:
        eventually(lambda: bool(subscriber.received), "the new prompt is asked")
    assert call(broker, "reload")["applied"] == []
    config.write_text(good, encoding="utf-8")
    assert call(broker, "reload")["applied"] == ["prompt", "commands.per_minute"]


def test_a_picture_leaves_only_where_the_operator_allows_it_and_is_never_retained(
    tmp_path: Path, running: Running
) -> None:
    broker, config = running.broker, running.config
    good = config.read_text(encoding="utf-8")
    assert call(broker, "snapshot")["reason"] == "not_allowed"
    config.write_text(good + "[privacy]\nsnapshots = true\n", encoding="utf-8")
    assert call(broker, "reload")["applied"] == ["privacy"]
    picture = tmp_path / "picture.jpg"
    with picture.open("wb") as file:
        waiting = subprocess.Popen(
            [
                *("mosquitto_sub", "-h", broker.host, "-p", str(broker.port), "-t", f"{DEVICE}/cam/image"),
                *("-C", "1", "-N", "-W", "30"),
            ],
            stdout=file,
        )
        time.sleep(0.5)  # until it is subscribed
        assert call(broker, "snapshot")["status"] == "done"
        assert waiting.wait(30) == 0
    with Image.open(picture) as image:
        assert (image.format, image.size) == ("JPEG", (64, 48))
    with Subscriber(broker, f"{DEVICE}/#") as late:
        time.sleep(0.5)
        kept = [item.topic for item in late.received if item.retain]
    assert sorted(kept) == [f"{DEVICE}/availability", f"{DEVICE}/cam/state", f"{DEVICE}/health"]
    config.write_text(good, encoding="utf-8")
    assert call(broker, "reload")["applied"] == ["privacy"]


def test_the_key_frame_with_its_boxes_is_published_where_the_operator_allows_it_and_never_retained(
    tmp_path: Path, broker: Mosquitto, reel: Path
) -> None:
    needs.program("mosquitto_sub", "mosquitto-clients")
    one = ["mosquitto_sub", "-h", broker.host, "-p", str(broker.port), "-C", "1", "-N", "-t"]
    one.append(f"{DEVICE}/cam/image/annotated")
    picture = tmp_path / "picture.jpg"
    with (
        picture.open("wb") as file,
        subprocess.Popen([*one, "-W", "60"], stdout=file) as waiting,
        Service(tmp_path, broker, {"cam": {"source": str(reel)}}, more="[privacy]\nannotated = true\n"),
    ):
        assert waiting.wait(60) == 0
    with Image.open(picture) as image:
        assert image.format == "JPEG"
        assert image.width / image.height == pytest.approx(160 / 96, rel=0.05)  # all of the camera's picture
    assert subprocess.run([*one, "-W", "1"], capture_output=True, check=False).stdout == b""


def test_no_key_frame_is_published_unless_the_operator_allows_it(running: Running) -> None:
    needs.program("mosquitto_sub", "mosquitto-clients")
    broker, config = running.broker, running.config
    pictures = ["stdbuf", "-o0", "mosquitto_sub", "-h", broker.host, "-p", str(broker.port)]
    with (
        subprocess.Popen([*pictures, "-t", f"{DEVICE}/+/image/#"], stdout=subprocess.PIPE) as looking,
        Subscriber(broker, f"{DEVICE}/cam/spatial") as subscriber,
    ):
        try:
            eventually(lambda: len(subscriber.received) >= 2, "two spatial answers")
        finally:
            looking.kill()
        assert looking.communicate()[0] == b""
        assert all(
            json.loads(item.payload)["key_frame"] for item in subscriber.received
        )  # there was one to show
    good = config.read_text(encoding="utf-8")
    contradiction = "[privacy]\nannotated = true\n[answers]\nkey_frame_tokens = 0\n"
    config.write_text(good + contradiction, encoding="utf-8")
    reply = call(broker, "reload")
    config.write_text(good, encoding="utf-8")
    assert reply["status"] == "failed"
    assert "key_frame_tokens = 0" in " ".join(reply["problems"])


def test_retained_commands_are_not_carried_out_and_callers_of_3_1_1_find_their_id_in_the_reply(
    tmp_path: Path, broker: Mosquitto, reel: Path, received: Callable[[], list[Received]]
) -> None:
    send(broker, "pause", '{"id": "old"}', "-r")  # before the service comes
    try:
        with Service(tmp_path, broker, looping(reel)) as service:
            service.wait_for("clip 0 is answered")
            send(broker, "pause", '{"id": "new"}', "-r")
            send(broker, "pause", '{"camera": "garden", "id": "mine"}', "-V", "311")
            eventually(lambda: len(replies(received())) >= 2, "two refusals")
            assert [(r["reason"], r["command_id"]) for r in replies(received())] == [
                ("retained", ""),
                ("unknown_camera", "mine"),
            ]
            service.wait_for("clip 1 is answered")
            assert service.end() == 0
    finally:
        send(broker, "pause", "", "-r")
    health = [json.loads(item.payload) for item in received() if item.topic.endswith("/health")]
    assert health[-1]["commands"] == {
        "done": 0,
        "failed": 0,
        "refused": 2,
        "reasons": {"retained": 1, "unknown_camera": 1},
    }


def test_commands_can_be_switched_off(tmp_path: Path, broker: Mosquitto, reel: Path) -> None:
    with (
        Subscriber(broker, f"{DEVICE}/reply") as subscriber,
        Service(tmp_path, broker, looping(reel), more="[commands]\nenabled = false\n") as service,
    ):
        service.wait_for("clip 0 is answered")
        send(broker, "pause", "{}")
        service.wait_for("clip 1 is answered")
        assert subscriber.received == []


def test_a_reply_that_the_broker_refuses_stands_in_nobodys_way(tmp_path: Path) -> None:
    acl = "user dev\ntopic write edgeclip/v1/dev/#\nuser caller\ntopic read #\n"
    users = {"dev": "p", "caller": "c"}
    (tmp_path / "pw").write_text("p", encoding="utf-8")
    topics = Topics("edgeclip", "dev")
    with Mosquitto(tmp_path / "broker", users=users, acl=acl) as broker:
        settings = MqttSettings(
            host=broker.host, port=broker.port, username="dev", password_file=tmp_path / "pw"
        )
        with (
            Subscriber(broker, topics.reply(), extra=("-u", "caller", "-P", "c")) as subscriber,
            Outbox(tmp_path / "outbox.db", max_bytes=2**20) as outbox,
        ):
            outbox.add([Outgoing("1", "somebody/elses", b"{}", REPLIES)])
            outbox.add([Outgoing("2", topics.reply(), b"{}", REPLIES)])
            publisher = Publisher(settings, topics, outbox, client_id="edgeclip-dev")
            publisher.start()
            try:
                eventually(lambda: subscriber.payloads(topics.reply()) == ["{}"], "the next reply arrives")
                eventually(lambda: outbox.stats().pending == 0, "nothing waits")
            finally:
                publisher.close(5.0)
