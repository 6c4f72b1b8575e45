"""Delivery through a real mosquitto to a subscriber that is not ours."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from edge.config import MqttSettings
from edge.deliver.connection import WINDOW
from edge.deliver.mqtt import (
    Acked,
    Backoff,
    Connected,
    Disconnected,
    Publisher,
    PublisherEvent,
)
from edge.deliver.outbox import Outbox, Outgoing
from edge.deliver.topics import Topics
from tests.broker import Mosquitto, Subscriber, eventually, free_port, have_mosquitto, make_certificates
from tests.needs import absent

QUICK = Backoff(0.05, 0.3)
TOPICS = Topics("edgeclip", "dev")
ANSWERS = TOPICS.answer("door", "summary")
AVAILABILITY = TOPICS.availability()


@pytest.fixture(autouse=True)
def _needs_mosquitto() -> None:
    if not have_mosquitto():
        absent("mosquitto", "mosquitto mosquitto-clients")


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    with Outbox(tmp_path / "outbox.db", max_bytes=2**22) as outbox:
        yield outbox


def answer(number: int, camera: str = "door", size: int = 0) -> Outgoing:
    payload = f'{{"schema":"edgeclip.answer/1","n":{number},"pad":"{"x" * size}"}}'.encode()
    return Outgoing(f"{camera}-{number}", TOPICS.answer(camera, "summary"), payload, camera)


def numbers(payloads: list[str]) -> list[int]:
    return [int(payload.split('"n":')[1].split(",")[0]) for payload in payloads]


def first_times(values: list[int]) -> list[int]:
    return list(dict.fromkeys(values))


@contextmanager
def publishing(
    broker: Mosquitto,
    outbox: Outbox,
    *,
    on_event: Callable[[PublisherEvent], None] = lambda _event: None,
    ack_timeout_s: float = 30.0,
    **more: Any,  # keys of [mqtt]
) -> Iterator[Publisher]:
    settings = MqttSettings.model_validate({"host": broker.host, "port": broker.port, **more})
    publisher = Publisher(
        settings,
        TOPICS,
        outbox,
        client_id="edgeclip-dev",
        on_event=on_event,
        backoff=QUICK,
        ack_timeout_s=ack_timeout_s,
    )
    publisher.start()
    try:
        yield publisher
    finally:
        publisher.close(5)
        assert not publisher.alive


def test_an_answer_arrives_and_leaves_the_outbox_on_its_acknowledgement(
    tmp_path: Path, outbox: Outbox
) -> None:
    events: list[PublisherEvent] = []
    with Mosquitto(tmp_path / "broker") as broker, Subscriber(broker) as subscriber:
        with publishing(broker, outbox, on_event=events.append) as publisher:
            outbox.add([answer(0)])
            publisher.wake()
            eventually(lambda: outbox.stats().pending == 0, "the outbox is empty")
            assert publisher.last_ack_age_s is not None
        eventually(lambda: len(subscriber.received) == 3, "online, answer, offline")
        online, got, offline = subscriber.received
    assert events == [Connected("MQTT 5"), Acked("door-0")]
    assert (online.payload, offline.payload) == ("online", "offline")
    assert (got.topic, got.payload, got.qos, got.retain) == (ANSWERS, answer(0).payload.decode(), 1, False)
    assert got.properties["content-type"] == "application/json"
    assert got.properties["user-properties"] == {"schema": "edgeclip.answer/1"}
    assert got.properties["message-expiry-interval"] == 7 * 24 * 3600


def test_nothing_leaves_the_outbox_while_the_broker_is_silent(tmp_path: Path, outbox: Outbox) -> None:
    events: list[PublisherEvent] = []
    with Mosquitto(tmp_path / "broker") as broker, Subscriber(broker, ANSWERS) as subscriber:
        with publishing(broker, outbox, on_event=events.append, ack_timeout_s=1.0) as publisher:
            eventually(lambda: publisher.connected, "a connection")
            eventually(lambda: publisher.last_ack_age_s is not None, "the birth is acknowledged")
            broker.pause()  # the connection stays up, and nothing is acknowledged
            outbox.add([answer(n) for n in range(20)])
            publisher.wake()
            eventually(lambda: publisher.oldest_unacked_s > 0, "messages in flight")
            eventually(lambda: not publisher.connected, "the dead connection is given up")
            assert outbox.stats().pending == 20
            assert Disconnected("the broker acknowledges nothing") in events
            broker.resume()
            eventually(lambda: outbox.stats().pending == 0, "everything is delivered")
        eventually(lambda: len(set(numbers(subscriber.payloads(ANSWERS)))) == 20, "everything arrived")
        assert first_times(numbers(subscriber.payloads(ANSWERS))) == list(range(20))


def test_a_broker_that_comes_late_gets_everything_in_order(
    tmp_path: Path, outbox: Outbox, caplog: pytest.LogCaptureFixture
) -> None:
    cameras = ("door", "yard")
    outbox.add([answer(n, camera) for n in range(15) for camera in cameras])
    with (
        Mosquitto(tmp_path / "broker", persistence=True) as broker,
        Subscriber(broker, keep="listener") as subscriber,
    ):
        broker.stop()  # the subscriber's session is kept
        with publishing(broker, outbox) as publisher:
            eventually(lambda: "refused" in publisher.trouble, "the first attempt failed")
            assert outbox.stats().pending == 30
            broker.start()
            eventually(lambda: outbox.stats().pending == 0, "everything is delivered")
        eventually(lambda: len({(r.topic, r.payload) for r in subscriber.received}) == 32, "all arrived")
        for camera in cameras:
            got = numbers(subscriber.payloads(TOPICS.answer(camera, "summary")))
            assert first_times(got) == list(range(15))
    refusals = [record.levelname for record in caplog.records if "Connection refused" in record.message]
    assert refusals == ["WARNING"]  # once, however many attempts there were


def test_a_broker_restarted_in_mid_flow_loses_nothing_and_keeps_the_order(
    tmp_path: Path, outbox: Outbox
) -> None:
    cameras = ("door", "yard")
    with (
        Mosquitto(tmp_path / "broker", persistence=True) as broker,
        Subscriber(broker, keep="listener") as subscriber,
        publishing(broker, outbox) as publisher,
    ):
        count = 0
        for life in range(3):
            eventually(lambda: publisher.connected, "a connection")
            for _ in range(40):
                outbox.add([answer(count, camera, size=500) for camera in cameras])
                publisher.wake()
                count += 1
            if life < 2:
                broker.stop()  # in order: the subscriber's session is kept, what it was owed too
                broker.start()
        eventually(lambda: outbox.stats().pending == 0, "everything is delivered", progress=outbox.stats)
        for camera in cameras:
            topic = TOPICS.answer(camera, "summary")
            eventually(
                lambda topic=topic: set(numbers(subscriber.payloads(topic))) >= set(range(count)),  # type: ignore[misc]
                "everything arrived",
                progress=lambda: len(subscriber.received),
            )
            assert first_times(numbers(subscriber.payloads(topic))) == list(range(count))


def test_retained_state_is_published_anew_to_a_broker_that_forgot_it(tmp_path: Path, outbox: Outbox) -> None:
    events: list[PublisherEvent] = []
    with (
        Mosquitto(tmp_path / "broker") as broker,
        publishing(broker, outbox, on_event=events.append) as publisher,
    ):
        publisher.retained(TOPICS.health(), b'{"n":1}')
        publisher.retained(TOPICS.state("door"), b"a person at the door")
        publisher.retained(TOPICS.health(), b'{"n":2}')
        eventually(lambda: publisher.connected, "a connection")
        outbox.add([answer(0)])
        publisher.wake()
        eventually(lambda: outbox.stats().pending == 0, "the answer is delivered")
        broker.stop(kill=True)
        eventually(lambda: not publisher.connected, "the loss is noticed")
        broker.start()
        eventually(lambda: publisher.connected, "a connection again")
        outbox.add([answer(1)])
        publisher.wake()
        eventually(lambda: outbox.stats().pending == 0, "the answer is delivered")
        with Subscriber(broker) as late:
            eventually(lambda: len(late.received) >= 3, "retained state")
            assert {(r.topic, r.payload) for r in late.received if r.retain} == {
                (AVAILABILITY, "online"),
                (TOPICS.health(), '{"n":2}'),
                (TOPICS.state("door"), "a person at the door"),
            }
    assert [event.protocol for event in events if isinstance(event, Connected)] == ["MQTT 5", "MQTT 5"]


def test_only_availability_health_and_state_are_retained(tmp_path: Path, outbox: Outbox) -> None:
    with Mosquitto(tmp_path / "broker", persistence=True) as broker:
        with publishing(broker, outbox) as publisher:
            outbox.add(
                [answer(0), Outgoing("s", TOPICS.skipped("door"), b'{"schema":"edgeclip.skipped/1"}', "door")]
            )
            publisher.retained(TOPICS.health(), b"{}")
            publisher.retained(TOPICS.state("door"), b"headline")
            publisher.wake()
            eventually(lambda: outbox.stats().pending == 0, "everything is delivered")
            publisher.telemetry("edgeclip/v1/dev/telemetry", b"{}")
        with Subscriber(broker) as late:
            eventually(lambda: len(late.received) >= 3, "retained state")
            assert {item.topic for item in late.received} == {
                AVAILABILITY,
                TOPICS.health(),
                TOPICS.state("door"),
            }
            assert late.payloads(AVAILABILITY) == ["offline"]


def test_telemetry_is_sent_at_once_and_never_stored(tmp_path: Path, outbox: Outbox) -> None:
    with Mosquitto(tmp_path / "broker") as broker, Subscriber(broker, "telemetry") as subscriber:
        with publishing(broker, outbox) as publisher:
            eventually(lambda: publisher.connected, "a connection")
            publisher.telemetry("telemetry", b"1")
            eventually(lambda: len(subscriber.received) == 1, "telemetry")
            assert subscriber.received[0].qos == 0
            assert outbox.stats().pending == 0
        publisher.telemetry("telemetry", b"2")
        assert len(subscriber.received) == 1


KILLED = textwrap.dedent(
    """
    import sys, time
    from pathlib import Path
    from edge.config import MqttSettings
    from edge.deliver.mqtt import Publisher
    from edge.deliver.outbox import Outbox
    from edge.deliver.topics import Topics
    outbox = Outbox(Path(sys.argv[1]), max_bytes=2**22)
    settings = MqttSettings(host="127.0.0.1", port=int(sys.argv[2]))
    Publisher(settings, Topics("edgeclip", "dev"), outbox, client_id="edgeclip-dev").start()
    time.sleep(600)
    """
)


def test_the_broker_announces_a_killed_device_as_offline(tmp_path: Path) -> None:
    with Mosquitto(tmp_path / "broker") as broker, Subscriber(broker, AVAILABILITY) as subscriber:
        device = subprocess.Popen(
            [sys.executable, "-c", KILLED, str(tmp_path / "outbox.db"), str(broker.port)]
        )
        try:
            eventually(lambda: subscriber.payloads(AVAILABILITY) == ["online"], "online")
        finally:
            os.kill(device.pid, signal.SIGKILL)
            device.wait()
        eventually(lambda: subscriber.payloads(AVAILABILITY) == ["online", "offline"], "the will")
        with Subscriber(broker, AVAILABILITY) as late:
            eventually(lambda: late.payloads(AVAILABILITY) == ["offline"], "the retained will")


def test_the_end_sends_what_waits_and_then_offline(tmp_path: Path, outbox: Outbox) -> None:
    with Mosquitto(tmp_path / "broker") as broker, Subscriber(broker) as subscriber:
        with publishing(broker, outbox) as publisher:
            eventually(lambda: publisher.connected, "a connection")
            outbox.add([answer(n) for n in range(50)])  # and no wake: close comes first
        assert outbox.stats().pending == 0
        eventually(lambda: subscriber.payloads(AVAILABILITY) == ["online", "offline"], "offline")
        assert numbers(subscriber.payloads(ANSWERS)) == list(range(50))
        assert subscriber.received[-1].topic == AVAILABILITY


def test_the_end_sends_what_waits_to_a_broker_that_takes_one_thing_at_a_time(
    tmp_path: Path, outbox: Outbox
) -> None:
    outbox.add([answer(n) for n in range(5)])
    with Mosquitto(tmp_path / "broker", more="max_inflight_messages 1") as broker:
        settings = MqttSettings(host=broker.host, port=broker.port)
        publisher = Publisher(settings, TOPICS, outbox, client_id="edgeclip-dev", backoff=QUICK)
        for topic in ("a", "b"):
            publisher.subscribe(topic, lambda _message: None)
        publisher.start()
        publisher.close(10)
    assert outbox.stats().pending == 0


def test_without_drain_the_end_leaves_what_waits(tmp_path: Path, outbox: Outbox) -> None:
    with Mosquitto(tmp_path / "broker") as broker, Subscriber(broker, AVAILABILITY) as subscriber:
        with publishing(broker, outbox) as publisher:
            eventually(lambda: publisher.last_ack_age_s is not None, "the birth is acknowledged")
            broker.pause()
            outbox.add([answer(n) for n in range(50)])
            publisher.wake()
            eventually(lambda: publisher.oldest_unacked_s > 0, "messages in flight")
            thaw = threading.Timer(0.5, broker.resume)
            thaw.start()
            publisher.close(10, drain=False)
            thaw.join()
        assert outbox.stats().pending == 50 - WINDOW
        eventually(lambda: subscriber.payloads(AVAILABILITY) == ["online", "offline"], "offline")


def test_closing_without_a_broker_ends_at_once_and_keeps_everything(tmp_path: Path, outbox: Outbox) -> None:
    outbox.add([answer(0)])
    publisher = Publisher(
        MqttSettings(host="127.0.0.1", port=free_port()), TOPICS, outbox, client_id="edgeclip-dev"
    )
    publisher.start()
    eventually(lambda: publisher.trouble != "", "the first attempt failed")
    publisher.close(5)
    assert not publisher.alive
    assert outbox.pending(9) == [answer(0)]


def test_a_publisher_that_never_started_can_be_closed(outbox: Outbox) -> None:
    Publisher(MqttSettings(), TOPICS, outbox, client_id="edgeclip-dev").close(1)


def test_an_owner_that_fails_does_not_stop_delivery(
    tmp_path: Path, outbox: Outbox, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(event: PublisherEvent) -> None:
        raise RuntimeError(type(event).__name__)

    with Mosquitto(tmp_path / "broker") as broker, publishing(broker, outbox, on_event=fail) as publisher:
        outbox.add([answer(n) for n in range(30)])
        publisher.wake()
        eventually(lambda: outbox.stats().pending == 0, "everything is delivered")
        assert publisher.connected
    assert "the owner of the publisher failed on Acked" in caplog.text


def test_a_missing_password_file_is_said_and_tried_again(tmp_path: Path, outbox: Outbox) -> None:
    login: dict[str, Any] = {"username": "dev", "password_file": tmp_path / "mqtt.pw"}
    with (
        Mosquitto(tmp_path / "broker", users={"dev": "right"}) as broker,
        publishing(broker, outbox, **login) as publisher,
    ):
        eventually(lambda: "mqtt.pw cannot be read" in publisher.trouble, "the complaint")
        (tmp_path / "mqtt.pw").write_text("right")
        eventually(lambda: publisher.connected, "a connection")


def test_a_message_that_the_acl_forbids_stays_and_other_cameras_go_on(tmp_path: Path, outbox: Outbox) -> None:
    (tmp_path / "mqtt.pw").write_text("right")
    acl = "user dev\ntopic write edgeclip/v1/dev/yard/#\ntopic write edgeclip/v1/dev/availability\n"
    login: dict[str, Any] = {"username": "dev", "password_file": tmp_path / "mqtt.pw"}
    outbox.add([answer(n) for n in range(20)])
    outbox.add([answer(n, "yard") for n in range(20)])
    with (
        Mosquitto(tmp_path / "broker", users={"dev": "right"}, acl=acl) as broker,
        publishing(broker, outbox, **login),
    ):
        eventually(lambda: outbox.stats().pending == 20, "the permitted camera is delivered")
        assert {m.camera for m in outbox.pending(99)} == {"door"}


def test_tls_with_the_right_authority_and_a_client_certificate_delivers(
    tmp_path: Path, outbox: Outbox
) -> None:
    pem = make_certificates(tmp_path / "pem")
    tls: dict[str, Any] = {
        "tls": True,
        "ca_file": pem.ca,
        "cert_file": pem.client,
        "key_file": pem.client_key,
    }
    with (
        Mosquitto(tmp_path / "broker", certificates=pem, users={}, client_certificates=True) as broker,
        publishing(broker, outbox, **tls) as publisher,
    ):
        outbox.add([answer(n) for n in range(30)])
        publisher.wake()
        eventually(lambda: outbox.stats().pending == 0, "everything is delivered")


def test_tls_without_an_authority_of_its_own_trusts_only_the_systems(tmp_path: Path, outbox: Outbox) -> None:
    pem = make_certificates(tmp_path / "pem")
    with (
        Mosquitto(tmp_path / "broker", certificates=pem) as broker,
        publishing(broker, outbox, tls=True) as publisher,
    ):
        eventually(lambda: "certificate" in publisher.trouble, "the refusal")
