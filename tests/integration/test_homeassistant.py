"""Home Assistant finds the device, keeps finding it, and forgets it: discovery through a real broker."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from edge.config import PromptSettings, Settings
from edge.deliver import homeassistant
from edge.deliver.announcer import Announcer
from edge.deliver.forget import forget
from edge.deliver.mqtt import Backoff, Publisher
from edge.deliver.outbox import Outbox
from edge.deliver.topics import Topics
from edge.messages import published_schema
from tests import needs
from tests.broker import Mosquitto, Received, Subscriber, eventually
from tests.homeassistant import STATE_CHARS, attributes, commands_of, states
from tests.media import film, steady
from tests.service import Service

DISCOVERY = "homeassistant/device/edgeclip/d/config"
BASE = "edgeclip/v1/d"


@pytest.fixture(autouse=True)
def _needs_mosquitto() -> None:
    needs.program("mosquitto", "mosquitto")
    needs.program("mosquitto_sub", "mosquitto-clients")


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path / "broker") as mosquitto:
        yield mosquitto


def settings(broker: Mosquitto, cameras: tuple[str, ...], device: str = "d", **more: Any) -> Settings:
    return Settings.model_validate(
        {
            "device": {"id": device},
            "bundle": {"path": "b"},
            "camera": [{"id": camera, "source": "v.mp4"} for camera in cameras],
            "mqtt": {"host": broker.host, "port": broker.port},
            "homeassistant": more,
        }
    )


@contextmanager
def announced(directory: Path, found: Settings) -> Iterator[tuple[Publisher, Announcer]]:
    """Announce a device as the service does, without cameras and model."""
    topics = Topics(found.mqtt.root, found.device.id)
    with Outbox(directory / f"{found.device.id}.db", max_bytes=2**20) as outbox:
        publisher = Publisher(
            found.mqtt, topics, outbox, client_id=found.device.id, backoff=Backoff(0.05, 0.3)
        )
        announcer = Announcer(found, topics, publisher)
        publisher.start()
        try:
            yield publisher, announcer
        finally:
            publisher.close(5)


def say(broker: Mosquitto, topic: str, payload: str, *more: str) -> None:
    where = ("-h", broker.host, "-p", str(broker.port), "-q", "1")
    subprocess.run(["mosquitto_pub", *where, "-t", topic, "-m", payload, *more], check=True)


def retained(broker: Mosquitto) -> dict[str, str]:
    """Return what the broker keeps, as one who subscribes now is told."""
    say(broker, "last", "x", "-r")
    with Subscriber(broker) as subscriber:
        eventually(lambda: subscriber.payloads("last") != [], "the last retained message")
        kept = {item.topic: item.payload for item in subscriber.received if item.retain}
    del kept["last"]
    return kept


def components(payload: str) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = json.loads(payload)["components"]
    return found


def fed(received: list[Received]) -> list[tuple[str, str]]:
    return [(item.topic, item.payload) for item in received]


def test_home_assistant_shows_what_the_running_service_publishes_and_nothing_else_is_retained(
    tmp_path: Path, broker: Mosquitto
) -> None:
    reel = film(tmp_path / "reel.mp4", steady(20, fps=8))
    source: dict[str, object] = {"source": str(reel), "realtime": False, "loop": True}
    with (
        Subscriber(broker) as subscriber,
        Service(tmp_path, broker, {"left": source, "right": source}) as service,
    ):
        service.wait_for("is answered", times=4)
        before = len(subscriber.payloads(DISCOVERY))
        assert before == 1  # one connection, one message: it depends on nothing that is known only later
        say(broker, "homeassistant/status", "online")
        eventually(lambda: len(subscriber.payloads(DISCOVERY)) > before, "discovery is published again")
        seen = len(subscriber.received)
        kept = retained(broker)
        eventually(lambda: len(subscriber.received) > seen, "more messages")
        assert service.end() == 0
        eventually(lambda: subscriber.payloads(f"{BASE}/availability")[-1] == "offline", "the end")
        received = subscriber.received
    assert kept.keys() == {
        DISCOVERY,
        f"{BASE}/availability",
        f"{BASE}/health",
        f"{BASE}/left/state",
        f"{BASE}/right/state",
    }
    found = states(kept[DISCOVERY], fed(received))
    fed_by_commands = {"left answer", "right answer", "last command"}
    assert found.keys() | fed_by_commands == {
        component["name"] for component in components(kept[DISCOVERY]).values() if "state_topic" in component
    }
    assert {len(state) <= STATE_CHARS for state in found.values()} == {True}
    newest = dict(fed(received))
    assert found["left headline"] == json.loads(newest[f"{BASE}/left/state"])["headline"]
    assert found["right spatial"] == json.loads(newest[f"{BASE}/right/spatial"])["headline"]
    assert re.fullmatch(r"\d pairs", found["left headline"])
    assert (found["left summary events"], found["left spatial objects"]) == ("0", "1")
    assert (found["left coverage"], found["coverage"]) == ("100.0", "100.0")
    assert (found["left camera"], found["left camera state"]) == ("OFF", "stopped")
    assert (found["left paused"], found["left rung"]) == ("OFF", "0")
    assert re.fullmatch(r"None|\d+(\.\d+)?", found["left energy"])  # not every machine can tell
    assert (found["model"], found["engine"], found["backlog"]) == ("stand-in", "stopped", "0")
    live = [(topic, payload) for topic, payload in fed(received) if '"state":"live"' in payload]
    assert states(kept[DISCOVERY], live)["left camera"] == "ON"
    assert attributes(kept[DISCOVERY], "left headline", fed(received))["schema"] == "edgeclip.answer/1"


def test_what_home_assistant_commands_is_done_and_shown(tmp_path: Path, broker: Mosquitto) -> None:
    reel = film(tmp_path / "reel.mp4", steady(20, fps=8))
    sources: dict[str, dict[str, object]] = {
        name: {"source": str(reel), "loop": True} for name in ("left", "right")
    }
    allowed = "[privacy]\nsnapshots = true\n[commands]\nper_minute = 600\nkeep_clips = 2\n"
    with (
        Subscriber(broker, extra=("-T", f"{BASE}/+/image")) as subscriber,
        Service(tmp_path, broker, sources, more=allowed) as service,
    ):
        service.wait_for("is answered", times=2)
        announcement = subscriber.payloads(DISCOVERY)[-1]
        by_name = {component["name"]: component for component in components(announcement).values()}

        def shows(name: str, wanted: str) -> None:
            def shown() -> bool:
                return states(announcement, fed(subscriber.received)).get(name, "").startswith(wanted)

            eventually(shown, f"{name} shows {wanted}")

        def press(name: str, which: int = 0, text: str = "") -> None:
            say(broker, *commands_of(by_name[name], text)[which])

        press("left question", text='Is "it" open?')
        shows("left answer", 'Is "it" open?')
        press("right question", text="die")
        shows("right answer", "the inference process died")
        shows("left answer", 'Is "it" open?')  # another camera's
        press("right paused", 0)
        shows("right paused", "ON")
        shows("left paused", "OFF")
        shows("last command", "pause done")
        press("right analyse now")
        shows("last command", "analyse-now refused: paused")
        press("right paused", 1)
        shows("right paused", "OFF")
        press("left snapshot")
        shows("last command", "snapshot done")
        press("reload configuration")
        shows("last command", "reload done")
        known = attributes(announcement, "left answer", fed(subscriber.received))
        assert (known["status"], known["camera"], len(known["answers"])) == ("done", "left", 1)
        kept = retained(broker)
        assert service.end() == 0
    state = {f"{BASE}/{camera}/state" for camera in sources}
    assert kept.keys() == {DISCOVERY, f"{BASE}/availability", f"{BASE}/health", *state}
    assert {"answer", "state", "health", "reply"} <= {schema_of(item) for item in subscriber.received}


def schema_of(item: Received) -> str:
    """Return the name of the published schema that a message claims and keeps, or "" of what is no message of ours."""
    if not item.topic.startswith(f"{BASE}/") or not item.payload.startswith("{") or "/cmd/" in item.topic:
        return ""
    message = json.loads(item.payload)
    name = str(message["schema"]).removeprefix("edgeclip.").removesuffix("/1")
    jsonschema.Draft202012Validator(published_schema(name)).validate(message)
    return name


def test_a_starting_home_assistant_is_told_everything_again(tmp_path: Path, broker: Mosquitto) -> None:
    state = f"{BASE}/door/state"
    with announced(tmp_path, settings(broker, ("door",))) as (publisher, announcer):
        publisher.retained(state, b"{}")
        eventually(lambda: state in retained(broker), "everything is published")
        with Subscriber(broker) as subscriber:
            say(broker, "homeassistant/status", "offline")
            say(broker, "homeassistant/status", "online")

            def told() -> bool:
                announcer.tick()
                return {item.topic for item in subscriber.received if not item.retain} >= {
                    DISCOVERY,
                    f"{BASE}/availability",
                    state,
                }

            eventually(told, "discovery, availability and state are published again")


def test_a_broker_that_forgets_is_told_everything_again(tmp_path: Path, broker: Mosquitto) -> None:
    with announced(tmp_path, settings(broker, ("door",))):
        eventually(lambda: DISCOVERY in retained(broker), "discovery")
        broker.stop(kill=True)
        broker.start()
        eventually(lambda: DISCOVERY in retained(broker), "discovery, again")


def test_a_camera_taken_out_of_the_configuration_is_removed(tmp_path: Path, broker: Mosquitto) -> None:
    with announced(tmp_path, settings(broker, ("door", "yard"))) as (publisher, _):
        for camera in ("door", "yard"):
            publisher.retained(f"{BASE}/{camera}/state", b"{}")
        eventually(lambda: f"{BASE}/yard/state" in retained(broker), "both cameras are there")
    with announced(tmp_path, settings(broker, ("door",))):
        eventually(
            lambda: (
                components(retained(broker)[DISCOVERY]).get("yard.state.headline") == {"platform": "sensor"}
            ),
            "the camera's entities are removed",
        )
        eventually(lambda: f"{BASE}/yard/state" not in retained(broker), "its last headline too")
        kept = retained(broker)
    assert f"{BASE}/door/state" in kept
    assert len(components(kept[DISCOVERY])["door.state.headline"]) > 1
    with announced(tmp_path, settings(broker, ("door",))):
        eventually(lambda: "yard" not in retained(broker)[DISCOVERY], "the removal itself is forgotten")


def test_discovery_that_is_switched_off_is_taken_back_and_nothing_else(
    tmp_path: Path, broker: Mosquitto
) -> None:
    neighbour = "homeassistant/device/edgeclip/e/config"
    with (
        announced(tmp_path, settings(broker, ("door",))),
        announced(tmp_path, settings(broker, ("door",), device="e")),
    ):
        eventually(lambda: {DISCOVERY, neighbour} <= retained(broker).keys(), "both devices are there")
    with announced(tmp_path, settings(broker, ("door",), enabled=False)):
        eventually(lambda: DISCOVERY not in retained(broker), "the device is removed")
        assert neighbour in retained(broker)


def test_what_somebody_else_keeps_in_our_place_is_left_to_him(tmp_path: Path, broker: Mosquitto) -> None:
    say(broker, DISCOVERY, "x", "-r")
    with announced(tmp_path, settings(broker, ("door",), enabled=False)) as (publisher, _):
        eventually(lambda: publisher.last_ack_age_s is not None, "connected and heard")
        eventually(lambda: f"{BASE}/availability" in retained(broker), "online")
        assert retained(broker)[DISCOVERY] == "x"


def test_a_device_that_is_given_up_leaves_nothing_behind(tmp_path: Path, broker: Mosquitto) -> None:
    found = settings(broker, ("door",))
    with (
        announced(tmp_path, found) as (publisher, _),
        announced(tmp_path, settings(broker, ("door",), device="e")),
    ):
        for topic in ("health", "door/state"):
            publisher.retained(f"{BASE}/{topic}", b"{}")
        eventually(lambda: f"{BASE}/door/state" in retained(broker), "everything is published")
    topics = forget(found, Topics("edgeclip", "d"))
    assert {f"{BASE}/availability", f"{BASE}/health", f"{BASE}/door/state", DISCOVERY} <= set(topics)
    left = retained(broker)
    assert not [topic for topic in left if topic.startswith(f"{BASE}/")]
    assert left.keys() == {"edgeclip/v1/e/availability", DISCOVERY.replace("/d/", "/e/")}


def test_prompts_that_change_while_it_runs_join_and_leave_the_device(
    tmp_path: Path, broker: Mosquitto
) -> None:
    before = settings(broker, ("left",))
    count = PromptSettings(name="count", kind="ask", text="How many?")
    after = before.model_copy(update={"prompt": (before.prompt[0], count)})
    with Subscriber(broker, DISCOVERY) as subscriber, announced(tmp_path, before) as (_, announcer):
        eventually(lambda: len(subscriber.received) == 1, "the device is announced")
        announcer.reconfigure(after)
        eventually(lambda: len(subscriber.received) == 2, "the device is announced with other prompts")
    first, second = (components(item.payload) for item in subscriber.received)
    shown = homeassistant.keys(after, Topics("edgeclip", "d"))
    gone = first.keys() - shown
    assert gone == {"left.spatial.headline", "left.spatial.objects"}
    assert {key: second[key] for key in gone} == {key: {"platform": "sensor"} for key in gone}
    assert second.keys() - gone == shown
    assert "left.count.headline" in shown
