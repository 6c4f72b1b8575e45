"""The round trip of a question over MQTT: how long a caller waits beyond what the model needs.

    python -m tests.bench.ask [--bundle DIRECTORY] [--rounds 20] [--seconds 2]

The service runs with a looping film and a real mosquitto; mosquitto_rr (a process for every question) and aiomqtt (a
connection that stays) ask in turn, A B A B. First of an idle engine, the camera being paused: the time beyond the
answer's decoding, which holds both ways through the broker, the outbox on its disk, and the prefill of the question. Then
of a busy one, where the reply says how long the question waited for the chunk in hand. The last line is JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import aiomqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from edge.share import demo_bundle
from tests.broker import Mosquitto
from tests.media import film, steady
from tests.service import EDGE, Service

COMMAND = "edgeclip/v1/d/cmd/{}"
QUESTION = json.dumps({"question": "Is there a parcel at the door?"})
MORE = "[commands]\nper_minute = 6000\nmax_tokens = 32\n"
PROMPT = '[[prompt]]\nname = "summary"\nkind = "summary"\nmax_tokens = 48\n'


@dataclass(frozen=True, slots=True)
class Trip:
    """One question; seconds."""

    wall_s: float
    waited_s: float
    decode_s: float

    @property
    def beyond_s(self) -> float:
        """What is neither waiting for the model nor decoding."""
        return self.wall_s - self.waited_s - self.decode_s


@dataclass(frozen=True, slots=True)
class Figures:
    """Of several questions; milliseconds."""

    asked: int
    beyond_ms: float
    beyond_p95_ms: float
    decode_ms: float
    waited_ms: float
    waited_max_ms: float


def mosquitto_rr(broker: Mosquitto, verb: str, payload: str) -> dict[str, Any]:
    """Give a command with a client that starts, connects, asks and ends."""
    where = ("-V", "5", "-h", broker.host, "-p", str(broker.port), "-q", "1", "-W", "120")
    topics = ("-t", COMMAND.format(verb), "-e", "caller/rr", "-m", payload)
    done = subprocess.run(["mosquitto_rr", *where, *topics], capture_output=True, check=True)
    reply: dict[str, Any] = json.loads(done.stdout)
    return reply


async def aiomqtt_ask(client: aiomqtt.Client) -> dict[str, Any]:
    """Ask over a connection that is there."""
    properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    properties.ResponseTopic = "caller/aiomqtt"
    properties.CorrelationData = b"1"
    await client.publish(COMMAND.format("ask"), QUESTION, qos=1, properties=properties)
    async for message in client.messages:
        assert isinstance(message.payload, bytes)
        reply: dict[str, Any] = json.loads(message.payload)
        return reply
    raise AssertionError


async def timed(ask: Callable[[], Awaitable[dict[str, Any]]]) -> Trip:
    """Time one question."""
    began = time.perf_counter()
    reply = await ask()
    wall_s = time.perf_counter() - began
    assert reply["status"] == "done", reply
    return Trip(wall_s, reply["waited_s"], reply["answers"][0]["provenance"]["latency"]["decode"])


async def in_turn(broker: Mosquitto, rounds: int) -> dict[str, Figures]:
    """Ask with both clients in turn, after one warm-up each."""
    trips: dict[str, list[Trip]] = {"mosquitto_rr": [], "aiomqtt": []}
    five = aiomqtt.ProtocolVersion.V5
    async with aiomqtt.Client(broker.host, broker.port, protocol=five, identifier="caller") as client:
        await client.subscribe("caller/aiomqtt", qos=1)

        async def in_a_process() -> dict[str, Any]:
            return mosquitto_rr(broker, "ask", QUESTION)

        async def connected() -> dict[str, Any]:
            return await aiomqtt_ask(client)

        for _ in range(rounds + 1):
            trips["mosquitto_rr"].append(await timed(in_a_process))
            trips["aiomqtt"].append(await timed(connected))
    return {name: figures(found[1:]) for name, found in trips.items()}


def figures(trips: list[Trip]) -> Figures:
    """Sum up."""
    beyond = sorted(trip.beyond_s for trip in trips)
    return Figures(
        asked=len(trips),
        beyond_ms=_ms(statistics.median(beyond)),
        beyond_p95_ms=_ms(beyond[max(0, round(0.95 * len(beyond)) - 1)]),
        decode_ms=_ms(statistics.median(trip.decode_s for trip in trips)),
        waited_ms=_ms(statistics.median(trip.waited_s for trip in trips)),
        waited_max_ms=_ms(max(trip.waited_s for trip in trips)),
    )


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 1)


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--bundle", type=Path, default=demo_bundle(), help="default: the demo's")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=2.0, help="length of a clip")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        (directory / "bundle").symlink_to(options.bundle.resolve())
        reel = film(directory / "reel.mp4", steady(44, fps=8))
        camera: dict[str, dict[str, object]] = {"cam": {"source": str(reel), "loop": True}}
        with (
            Mosquitto(directory / "broker") as broker,
            Service(
                directory, broker, camera, seconds=options.seconds, more=PROMPT + MORE, command=EDGE
            ) as service,
        ):
            service.wait_for("is answered")
            assert mosquitto_rr(broker, "pause", "{}")["status"] == "done"
            service.wait_for("skipped: paused")  # all that came before is answered
            idle = asyncio.run(in_turn(broker, options.rounds))
            assert mosquitto_rr(broker, "resume", "{}")["status"] == "done"
            service.wait_for("is answered", times=service.log.count("is answered") + 1)
            busy = asyncio.run(in_turn(broker, options.rounds))
            assert service.end() == 0
    result = {
        "idle": {name: asdict(found) for name, found in idle.items()},
        "busy": {name: asdict(found) for name, found in busy.items()},
    }
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
