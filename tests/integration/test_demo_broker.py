"""The demo's own broker and subscriber: publishing to them works, and nothing stays behind."""

from __future__ import annotations

import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from edge.config import MqttSettings
from edge.deliver.mqtt import Connected, Publisher, PublisherEvent
from edge.deliver.outbox import Outbox, Outgoing
from edge.deliver.topics import Topics
from edge.demo.broker import DemoBroker
from edge.demo.subscriber import Received, Subscriber
from edge.errors import DeliveryError
from tests.broker import eventually, free_port


def listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def test_what_is_published_reaches_the_subscriber_under_mqtt_3(tmp_path: Path) -> None:
    """amqtt misreads MQTT 5 and stays silent, as other old brokers may: the publisher falls back to 3.1.1."""
    topics = Topics("edgeclip", "demo")
    events: list[PublisherEvent] = []
    heard: list[Received] = []
    with (
        DemoBroker() as broker,
        Subscriber(broker.host, broker.port, on_message=heard.append) as subscriber,
        Outbox(tmp_path / "outbox.db", max_bytes=2**20) as outbox,
    ):
        settings = MqttSettings(host=broker.host, port=broker.port)
        publisher = Publisher(settings, topics, outbox, client_id="demo", on_event=events.append)
        publisher.start()
        outbox.add([Outgoing(str(n), topics.answer("door", "summary"), b"%d" % n, "door") for n in range(20)])
        publisher.wake()
        eventually(lambda: outbox.stats().pending == 0, "everything is delivered")
        publisher.close(5)
        assert subscriber.wait_for(lambda received: len(received) == 22, 10)
        assert [item.payload for item in subscriber.received] == [
            b"online",
            *(b"%d" % n for n in range(20)),
            b"offline",
        ]
        assert {item.qos for item in subscriber.received} == {1}
        assert heard == subscriber.received
        assert events[0] == Connected("MQTT 3.1.1")
        with Subscriber(broker.host, broker.port) as late:
            assert late.wait_for(lambda received: len(received) > 0, 10)
            assert {(r.topic, r.payload, r.retain) for r in late.received} == {  # amqtt may say it twice
                (topics.availability(), b"offline", True)
            }
    assert not listens(broker.port)


def test_a_subscriber_that_waits_in_vain_says_so() -> None:
    with DemoBroker() as broker, Subscriber(broker.host, broker.port) as subscriber:
        assert not subscriber.wait_for(lambda received: len(received) > 0, 0.1)


def test_without_a_broker_the_subscriber_is_refused_in_one_sentence() -> None:
    with pytest.raises(DeliveryError, match="there is no broker at"), Subscriber("127.0.0.1", free_port()):
        pass


ORPHAN = textwrap.dedent(
    """
    import os
    from edge.demo.broker import DemoBroker
    broker = DemoBroker()
    broker.start()
    print(broker.port, flush=True)
    os.kill(os.getpid(), 9)
    """
)


def test_the_broker_ends_with_a_demo_that_was_killed() -> None:
    done = subprocess.run([sys.executable, "-c", ORPHAN], capture_output=True, text=True, check=False)
    port = int(done.stdout)
    eventually(lambda: not listens(port), "the broker is gone")
