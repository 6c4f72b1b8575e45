"""A broker that drops the connection over one message still gets all the others; mosquitto does so over large ones."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from edge.config import MqttSettings
from edge.deliver.commands import REPLIES
from edge.deliver.mqtt import Backoff, Publisher
from edge.deliver.outbox import OVERHEAD_BYTES, Outbox, Outgoing
from edge.deliver.topics import Topics
from edge.messages import Dropped
from tests import needs
from tests.broker import Mosquitto, Subscriber, eventually

TOPICS = Topics("edgeclip", "dev")
LIMIT = 4000  # bytes; what is larger ends the connection
HUGE = b'{"pad":"' + b"x" * LIMIT + b'"}'


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    needs.program("mosquitto", "mosquitto")
    needs.program("mosquitto_sub", "mosquitto-clients")
    with Mosquitto(tmp_path / "broker", more=f"max_packet_size {LIMIT}") as mosquitto:
        yield mosquitto


@contextmanager
def publishing(broker: Mosquitto, outbox: Outbox) -> Iterator[Publisher]:
    settings = MqttSettings(host=broker.host, port=broker.port)
    publisher = Publisher(settings, TOPICS, outbox, client_id="edgeclip-dev", backoff=Backoff(0.05, 0.2))
    publisher.start()
    try:
        yield publisher
    finally:
        publisher.close(5)


def answer(number: int, camera: str, payload: bytes = b"{}") -> Outgoing:
    return Outgoing(f"{camera}-{number}", TOPICS.answer(camera, "summary"), payload, camera, number)


def test_one_camera_s_message_holds_up_its_own_messages_and_no_other_camera(
    tmp_path: Path, broker: Mosquitto, caplog: pytest.LogCaptureFixture
) -> None:
    with Outbox(tmp_path / "outbox.db", max_bytes=2**20) as outbox, Subscriber(broker) as subscriber:
        for number in range(20):
            outbox.add([answer(number, "door", HUGE if number == 0 else b"{}"), answer(number, "yard")])
        with publishing(broker, outbox) as publisher:
            eventually(lambda: outbox.stats().pending == 20, "the other camera is delivered")
            eventually(lambda: publisher.connected, "and the connection lasts")
            outbox.add([answer(20, "yard")])
            publisher.wake()
            eventually(lambda: outbox.stats().pending == 20, "so that what comes now goes out at once")
        assert [message.id for message in outbox.pending(99)] == [f"door-{n}" for n in range(20)]
        eventually(lambda: len(subscriber.payloads(TOPICS.answer("yard", "summary"))) >= 21, "all arrived")
        assert subscriber.payloads(TOPICS.answer("door", "summary")) == []
    assert caplog.text.count("the broker drops the connection over door") == 1


def test_state_that_the_broker_will_not_have_stops_neither_answers_nor_other_state(
    tmp_path: Path, broker: Mosquitto
) -> None:
    with Outbox(tmp_path / "outbox.db", max_bytes=2**20) as outbox, Subscriber(broker) as subscriber:
        outbox.add([answer(0, "door")])
        with publishing(broker, outbox) as publisher:
            publisher.retained("homeassistant/device/edgeclip/dev/config", HUGE)
            publisher.retained(TOPICS.health(), b"{}")
            eventually(lambda: outbox.stats().pending == 0, "the answer is delivered")
            eventually(lambda: "{}" in subscriber.payloads(TOPICS.health()), "the other state too")


def test_a_reply_over_which_the_broker_drops_the_connection_is_given_up(
    tmp_path: Path, broker: Mosquitto
) -> None:
    with Outbox(tmp_path / "outbox.db", max_bytes=2**20) as outbox, Subscriber(broker) as subscriber:
        outbox.add(
            [Outgoing("r-0", "callers/own", HUGE, REPLIES), Outgoing("r-1", "another/s", b"{}", REPLIES)]
        )
        with publishing(broker, outbox):
            eventually(lambda: outbox.stats().pending == 0, "nothing waits")
        assert subscriber.payloads("another/s") == ["{}"]


def test_replies_that_a_full_outbox_dropped_are_announced_and_delivery_goes_on(
    tmp_path: Path, broker: Mosquitto
) -> None:
    room = 3 * (OVERHEAD_BYTES + 64)
    with Outbox(tmp_path / "outbox.db", max_bytes=room) as outbox, Subscriber(broker) as subscriber:
        outbox.add([Outgoing(f"r-{n}", TOPICS.reply(), b"x" * 40, REPLIES) for n in range(5)])
        assert outbox.losses()
        with publishing(broker, outbox):
            eventually(
                lambda: outbox.stats().pending == 0 and not outbox.losses(), "all is delivered and said"
            )
        eventually(lambda: bool(subscriber.payloads(TOPICS.dropped(""))), "the announcement")
        said = Dropped.model_validate_json(subscriber.payloads(TOPICS.dropped(""))[0])
        assert (said.camera, said.count) == ("", outbox.stats().dropped)
