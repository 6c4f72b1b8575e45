"""A broker that is restarted, killed and away, while answers are committed and delivered.

    python -m tests.faults.brokers --restarts 100 --kills 100 --hours 24

Three campaigns with a real mosquitto and a subscriber with a durable session. Restarts: every answer is received. Kills
(-9): what the broker acknowledged, by its own log, is gone from the outbox, and nothing else. An outage with the outbox
at its bound: what is not received is exactly what is announced as dropped. The last line is the result in JSON.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from edge.config import MqttSettings
from edge.deliver.mqtt import Backoff, Publisher
from edge.deliver.outbox import ClipRow, Outbox, Outgoing
from edge.deliver.topics import Topics
from edge.messages import Dropped
from tests.broker import Mosquitto, Received, Subscriber, eventually

CAMERAS = ("door", "yard")
PROMPTS = ("summary", "spatial")
TOPICS = Topics("edgeclip", "d")
QUICK = Backoff(0.05, 0.2)
PAYLOAD = 1600  # bytes, as an answer has
_RECEIVED = re.compile(r"Received PUBLISH from edgeclip-d \(d\d, q1, r0, m(\d+), '([^']+)'")
_ACKED = re.compile(
    r"Sending PUBACK to edgeclip-d \(m(\d+), rc(?:0|16)\)"
)  # 16: taken, and nobody subscribed


@dataclass(frozen=True, slots=True)
class Restarts:
    """Answers over a broker's restarts: ``resent`` by us for want of an acknowledgement, ``repeated`` by the broker."""

    restarts: int
    answers: int
    resent: int
    repeated: int


@dataclass(frozen=True, slots=True)
class Kills:
    """Answers over a broker's sudden deaths; ``unheard`` acknowledgements died on their way to us."""

    kills: int
    answers: int
    unheard: int


@dataclass(frozen=True, slots=True)
class Outage:
    """An outage: messages committed, dropped as announced, and received; ``announced`` in how many messages."""

    hours: float
    messages: int
    dropped: int
    received: int
    announcements: int


@contextmanager
def publishing(broker: Mosquitto, outbox: Outbox) -> Iterator[Publisher]:
    """Deliver an outbox until the block ends."""
    settings = MqttSettings(host=broker.host, port=broker.port)
    publisher = Publisher(settings, TOPICS, outbox, client_id="edgeclip-d", backoff=QUICK)
    publisher.start()
    try:
        yield publisher
    finally:
        publisher.close(10)


def restarts(directory: Path, count: int, *, seed: int = 1) -> Restarts:
    """Restart the broker in order at random moments while answers flow."""
    rng = random.Random(seed)
    made: dict[str, list[str]] = {camera: [] for camera in CAMERAS}
    with (
        Mosquitto(directory / "broker", persistence=True, log="all") as broker,
        Subscriber(broker, "edgeclip/v1/d/+/summary", keep="witness") as subscriber,
        Outbox(directory / "outbox.db", max_bytes=1 << 26) as outbox,
        publishing(broker, outbox) as publisher,
    ):
        for _ in range(count):
            eventually(lambda: publisher.connected, "a connection")
            for _ in range(rng.randrange(1, 20)):
                for camera in CAMERAS:
                    key = f"{camera}-{len(made[camera])}"
                    made[camera].append(key)
                    outbox.add([_message(key, camera, "summary", len(made[camera]))])
                publisher.wake()
                time.sleep(rng.uniform(0, 0.02))
            broker.stop()
            broker.start()
        eventually(lambda: outbox.stats().pending == 0, "everything is acknowledged", progress=outbox.stats)
        everything = {key for keys in made.values() for key in keys}
        eventually(
            lambda: everything <= {json.loads(item.payload)["id"] for item in subscriber.received},
            "everything is received",
            progress=lambda: len(subscriber.received),
        )
        received = [json.loads(item.payload)["id"] for item in subscriber.received]
    assert set(received) == everything
    for camera, keys in made.items():
        assert [key for key in dict.fromkeys(received) if key.startswith(camera)] == keys, "out of order"
    published = sum(name.endswith("/summary") for _, name in _RECEIVED.findall(broker.log.read_text()))
    resent = published - len(everything)
    return Restarts(count, len(everything), resent, len(received) - published)


def kills(directory: Path, count: int, *, seed: int = 1) -> Kills:
    """Kill the broker at random moments; after each, compare the outbox with the broker's own log."""
    rng = random.Random(seed)
    made: list[str] = []
    unheard = 0
    with (
        Mosquitto(directory / "broker", log="all") as broker,
        Outbox(directory / "outbox.db", max_bytes=1 << 26) as outbox,
        publishing(broker, outbox) as publisher,
    ):
        for _ in range(count):
            eventually(lambda: publisher.connected, "a connection")
            for _ in range(rng.randrange(1, 40)):
                key = f"p{len(made)}"  # each has a topic of its own, by which the log names it
                made.append(key)
                outbox.add([_message(key, "door", key, len(made))])
            publisher.wake()
            time.sleep(rng.uniform(0, 0.03))
            broker.stop(kill=True)
            eventually(lambda: not publisher.connected, "the loss is noticed")
            acknowledged = _acknowledged(broker.log.read_text())
            waiting = {message.id for message in outbox.pending(1 << 20)}
            gone = set(made) - waiting
            assert gone <= acknowledged, f"gone without an acknowledgement: {gone - acknowledged}"
            unheard += len(acknowledged - gone)
            broker.start()
        eventually(lambda: outbox.stats().pending == 0, "everything is acknowledged", progress=outbox.stats)
        assert _acknowledged(broker.log.read_text()) == set(made)
    return Kills(count, len(made), unheard)


def _acknowledged(log: str) -> set[str]:
    """Return the last parts of the topics whose messages the broker says that it acknowledged."""
    in_flight: dict[str, str] = {}
    acknowledged = set()
    for line in log.splitlines():
        if received := _RECEIVED.search(line):
            in_flight[received[1]] = received[2].rpartition("/")[2]
        elif acked := _ACKED.search(line):
            name = in_flight.pop(acked[1], "")
            acknowledged.add(name)
        elif "New client connected" in line and "edgeclip-d" in line:
            in_flight.clear()
    return acknowledged - {"", "availability"}


def outage(directory: Path, hours: float, *, max_bytes: int = 1 << 20, lives: int = 4) -> Outage:
    """Record for so many hours of clips without a broker, in several lives, and let the broker come back."""
    clips = round(hours * 60)
    made: dict[str, set[int]] = {}
    dropped: set[str] = set()
    with (
        Mosquitto(directory / "broker", persistence=True) as broker,
        Subscriber(broker, "edgeclip/v1/d/#", keep="witness") as subscriber,
    ):
        broker.stop()
        for life in range(lives):
            with Outbox(directory / "outbox.db", max_bytes=max_bytes) as outbox:
                for seq in range(life * clips // lives, (life + 1) * clips // lives):
                    for camera in CAMERAS:
                        dropped |= _record(outbox, camera, seq, made)
        broker.start()
        with (
            Outbox(directory / "outbox.db", max_bytes=max_bytes) as outbox,
            publishing(broker, outbox),
        ):
            eventually(
                lambda: outbox.stats().pending == 0 and not outbox.losses(),
                "everything is delivered",
                progress=outbox.stats,
            )
        kept = {f"{topic}-{seq}" for topic, seqs in made.items() for seq in seqs} - dropped
        eventually(
            lambda: kept <= {_id(item) for item in subscriber.received},
            "everything arrived",
            progress=lambda: len(subscriber.received),
        )
        received = [item for item in subscriber.received if item.topic != TOPICS.availability()]
    said = [Dropped.model_validate_json(item.payload) for item in received if item.topic.endswith("/dropped")]
    got: dict[str, set[int]] = {topic: set() for topic in made}
    for item in received:
        if not item.topic.endswith("/dropped"):
            got[item.topic].add(json.loads(item.payload)["seq"])
    announced: dict[str, set[int]] = {topic: set() for topic in made}
    for span in (span for message in said for span in message.spans):
        assert span.first_seq is not None
        assert span.last_seq is not None
        among = {seq for seq in made[span.topic] if span.first_seq <= seq <= span.last_seq}
        assert len(among) == span.count
        announced[span.topic] |= among
    for topic, seqs in made.items():
        assert announced[topic] == {seq for seq in seqs if f"{topic}-{seq}" in dropped}, topic
        assert got[topic] == seqs - announced[topic], topic
    for camera in CAMERAS:  # the loss is told before what comes after it
        first = next(item.topic for item in received if f"/{camera}/" in item.topic)
        assert (first == TOPICS.dropped(camera)) == any(message.camera == camera for message in said)
    return Outage(hours, sum(map(len, made.values())), len(dropped), sum(map(len, got.values())), len(said))


def _record(outbox: Outbox, camera: str, seq: int, made: dict[str, set[int]]) -> set[str]:
    """Let a clip come and go; every seventh is skipped. Return what was dropped."""
    clip = f"{camera}-{seq}"
    outbox.open_clip(ClipRow(clip, camera, outbox.next_seq(camera), "t", 60.0, clock_synced=True))
    topics = [TOPICS.skipped(camera)] if seq % 7 == 3 else [TOPICS.answer(camera, name) for name in PROMPTS]
    messages = []
    for topic in topics:
        made.setdefault(topic, set()).add(seq)
        payload = {"id": f"{topic}-{seq}", "seq": seq, "text": "x" * PAYLOAD}
        messages.append(Outgoing(f"{topic}-{seq}", topic, json.dumps(payload).encode(), camera, seq))
    gone = [*outbox.add(messages[:-1]), *outbox.commit(clip, "answered", 60.0, messages[-1:])]
    return {item.id for item in gone}


def _id(item: Received) -> str:
    return str(json.loads(item.payload)["id"]) if item.payload.startswith("{") else ""


def _message(key: str, camera: str, prompt: str, seq: int) -> Outgoing:
    payload = json.dumps({"id": key, "seq": seq, "text": "x" * PAYLOAD}).encode()
    return Outgoing(key, TOPICS.answer(camera, prompt), payload, camera, seq)


def main() -> None:
    """Run the campaigns from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--restarts", type=int, default=100)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--hours", type=float, default=24.0)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        results: list[Restarts | Kills | Outage] = [
            restarts(_new(directory / "restarts"), options.restarts, seed=options.seed),
            kills(_new(directory / "kills"), options.kills, seed=options.seed),
            outage(_new(directory / "outage"), options.hours),
        ]
    sys.stdout.write(json.dumps({type(result).__name__.lower(): asdict(result) for result in results}) + "\n")


def _new(directory: Path) -> Path:
    directory.mkdir()
    return directory


if __name__ == "__main__":
    main()
