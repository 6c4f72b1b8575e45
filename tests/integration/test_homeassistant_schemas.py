"""Home Assistant itself accepts every discovery message that we publish, shows what feeds it, and forgets what is gone.

    pytest -m slow tests/integration/test_homeassistant_schemas.py

It installs Home Assistant into a virtual environment of its own, once, in pytest's cache (600 MB, some minutes).
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest

from edge.deliver.forget import forget
from edge.deliver.homeassistant import discovery, keys
from edge.deliver.topics import Topics
from tests import needs
from tests.broker import Mosquitto, Subscriber, eventually, free_port
from tests.integration.test_homeassistant import DISCOVERY, announced
from tests.integration.test_homeassistant import settings as broker_settings
from tests.media import film, steady
from tests.service import Service
from tests.unit.deliver.test_homeassistant import settings, topics

HOME_ASSISTANT = "homeassistant==2025.4.4"
CLIENT = "paho-mqtt==2.1.0"  # of its MQTT integration, which it would install itself
PREFIX = "homeassistant/"
JUDGE = Path(__file__).with_name("homeassistant_judge.py")
CORE = Path(__file__).with_name("homeassistant_core.py")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def home_assistant(request: pytest.FixtureRequest) -> str:
    """The Python of an environment with Home Assistant."""
    directory = request.config.cache.mkdir(HOME_ASSISTANT.replace("==", "-"))
    python, done = directory / "bin" / "python", directory / "installed"
    if not done.exists():
        base = python_313()
        subprocess.run([base, "-m", "venv", "--clear", str(directory)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "-q", HOME_ASSISTANT, CLIENT], check=True)
        done.touch()
    return str(python)


def python_313() -> str:
    """Return a Python that this Home Assistant runs on, or skip."""
    if sys.version_info[:2] == (3, 13):
        return sys.executable
    base = needs.program("python3.13", "python3.13")
    if subprocess.run(
        [base, "-c", ""], check=False
    ).returncode:  # a version manager may only pretend to have it
        needs.absent("a python3.13 that runs", "python3.13")
    return base


def problems(python: str, *cases: dict[str, Any]) -> list[str]:
    done = subprocess.run(
        [python, "-W", "ignore", str(JUDGE)],
        input=json.dumps(cases),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        cwd=JUDGE.parent,
    )
    found: list[str] = json.loads(done.stdout)
    return found


def case(payload: bytes, **messages: str) -> dict[str, Any]:
    return {"topic": "device/edgeclip/pi-5/config", "payload": payload.decode(), "messages": messages}


class HomeAssistant:
    """A running Home Assistant; a context manager."""

    def __init__(self, python: str, broker: Mosquitto) -> None:
        self._process = subprocess.Popen(
            [python, "-W", "ignore", str(CORE), str(broker.port), str(free_port())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=CORE.parent,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._process.communicate(timeout=30)  # the end of its input ends it
        finally:
            self._process.kill()
            self._process.wait()

    def do(self, domain: str, service: str, **data: str) -> None:
        """Carry out an action, as a person does with a button."""
        self._ask(json.dumps([domain, service, data]))

    def _ask(self, line: str = "") -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        assert answer["complaints"] == []
        return answer

    def shown(self) -> dict[str, dict[str, Any]]:
        """State and attributes by entity."""
        states: dict[str, dict[str, Any]] = self._ask()["states"]
        return states

    def state(self, entity: str) -> str:
        """State of one entity, or ""."""
        return str(self.shown().get(entity, {}).get("state", ""))

    def registered(self) -> list[str]:
        """Entities that it remembers, shown or not."""
        entities: list[str] = self._ask()["registered"]
        return entities


def test_every_configuration_is_accepted(home_assistant: str) -> None:
    kinds = (("summary", "summary"), ("spatial", "spatial"), ("gate", "ask"), ("night", "summary"))
    many = tuple(f"camera-{n}" for n in range(16))
    configurations = [
        settings(),
        settings(many, kinds),
        settings(prompts=(("gate", "ask"),)),
        settings(clip={"seconds": 2.0, "fps": 1.0}, health={"every_s": 3600.0}),
        settings(mqtt={"root": "house/garden"}),
        settings(privacy={"snapshots": True}),
        settings(many, kinds, privacy={"snapshots": True, "annotated": True}),
        settings(commands={"enabled": False}),
        settings(watch=[{"id": "parcel", "question": "Is there a parcel at the door?"}]),
    ]
    cases = [case(discovery(found, topics(found))) for found in configurations]
    gone = {
        "yard.state.headline": "sensor",
        "health.yard.connected": "binary_sensor",
        "cmd.pause.yard.paused": "switch",
        "cmd.snapshot.yard.press": "button",
        "cmd.ask.yard.question": "text",
        "yard.image.picture": "image",
    }
    cases.append(case(discovery(settings(), topics(settings()), gone)))
    assert problems(home_assistant, *cases) == []


def test_what_a_running_service_publishes_is_accepted_and_shown(home_assistant: str, tmp_path: Path) -> None:
    needs.program("mosquitto", "mosquitto")
    reel = film(tmp_path / "reel.mp4", steady(20, fps=8))
    sources: dict[str, dict[str, object]] = {"left": {"source": str(reel)}, "right": {"source": str(reel)}}
    with (
        Mosquitto(tmp_path / "broker") as broker,
        Subscriber(broker) as subscriber,
        Service(tmp_path, broker, sources) as service,
    ):
        assert service.end(None) == 0
        received = subscriber.received
    (announcement,) = (item for item in received if item.topic.startswith(PREFIX))
    cases = [
        {
            "topic": announcement.topic.removeprefix(PREFIX),
            "payload": announcement.payload,
            "messages": {item.topic: item.payload},
        }
        for item in received
    ]
    assert len(cases) > 10
    assert problems(home_assistant, *cases) == []


def test_the_judge_finds_what_is_wrong(home_assistant: str) -> None:
    message = json.loads(discovery(settings(), topics(settings())))
    sensor = message["components"]["door.state.headline"]
    sensor |= {"device_class": "temperature", "unit_of_measurement": "clips", "colour": "red"}
    message["components"]["door.spatial.headline"]["platform"] = "telepathy"
    assert "telepathy" not in str(problems(home_assistant, case(b'{"components":{}}')))
    (refused,) = problems(home_assistant, case(json.dumps(message).encode()))
    assert refused.startswith("refused: value must be one of")
    del message["components"]["door.spatial.headline"]
    unknown, warned = problems(home_assistant, case(json.dumps(message).encode()))
    assert unknown == "door.state.headline: sensor knows nothing of ['colour']"
    assert "not valid together with device class" in warned
    failing = case(
        discovery(settings(), topics(settings())), **{topics(settings()).state("door"): '{"headline":""}'}
    )
    assert problems(home_assistant, failing) == []
    long = case(
        discovery(settings(), topics(settings())),
        **{topics(settings()).state("door"): json.dumps({"headline": "x" * 256})},
    )
    assert problems(home_assistant, long) == ["door.state.headline: a state of 256 characters"]


def test_a_running_home_assistant_finds_shows_and_forgets_the_device(
    home_assistant: str, tmp_path: Path
) -> None:
    needs.program("mosquitto", "mosquitto")
    reel = film(tmp_path / "reel.mp4", steady(20, fps=8))
    source: dict[str, object] = {"source": str(reel), "loop": True}
    with Mosquitto(tmp_path / "broker") as broker, HomeAssistant(home_assistant, broker) as home:
        sources = {"left": source, "right": source}
        allowed = "[privacy]\nsnapshots = true\n[commands]\nper_minute = 600\n"
        with Service(tmp_path, broker, sources, more=allowed) as service:
            service.wait_for("is answered", times=4)
            eventually(lambda: home.state("sensor.edgeclip_d_left_headline").endswith(" pairs"), "a headline")
            eventually(lambda: home.state("binary_sensor.edgeclip_d_right_camera") == "on", "a camera")
            eventually(lambda: home.state("sensor.edgeclip_d_left_spatial_objects") == "1", "an answer")
            eventually(
                lambda: "provenance" in home.shown()["sensor.edgeclip_d_left_headline"], "the whole answer"
            )
            shown = home.shown()
            assert shown["sensor.edgeclip_d_coverage"]["state"] == "100.0"
            assert shown["sensor.edgeclip_d_model"]["state"] == "stand-in"
            assert shown["binary_sensor.edgeclip_d_left_camera"]["friendly_name"] == "edgeclip d left camera"
            commanded_by(home, service)
            assert service.end() == 0
        eventually(
            lambda: {entity["state"] for entity in home.shown().values()} == {"unavailable"}, "all are away"
        )
        before = home.registered()
        with announced(tmp_path, broker_settings(broker, ("left",))):
            gone = ("_right_", "_snapshot", "_picture")  # the camera, and what is not allowed any more
            eventually(
                lambda: not [e for e in home.registered() if any(part in e for part in gone)], "all gone"
            )
            assert home.registered() == [e for e in before if not any(part in e for part in gone)]
        with announced(tmp_path, broker_settings(broker, ("left",), enabled=False)):
            eventually(lambda: home.registered() == [], "the device is gone")


def commanded_by(home: HomeAssistant, service: Service) -> None:
    """Press every button, turn every switch, ask, and see what comes of it."""
    last = "sensor.edgeclip_d_last_command"
    home.do("switch", "turn_on", entity_id="switch.edgeclip_d_left_paused")
    eventually(lambda: home.state("switch.edgeclip_d_left_paused") == "on", "the camera is paused")
    eventually(lambda: home.state(last) == "pause done", "the reply is shown")
    assert home.state("switch.edgeclip_d_right_paused") == "off"
    home.do("button", "press", entity_id="button.edgeclip_d_left_analyse_now")
    eventually(lambda: home.state(last) == "analyse-now refused: paused", "the refusal is shown")
    home.do("switch", "turn_off", entity_id="switch.edgeclip_d_left_paused")
    eventually(lambda: home.state("switch.edgeclip_d_left_paused") == "off", "the camera goes on")
    home.do("text", "set_value", entity_id="text.edgeclip_d_right_question", value='Is "it" open?')
    eventually(lambda: home.state("sensor.edgeclip_d_right_answer").startswith('Is "it" open?'), "the answer")
    assert home.shown()["sensor.edgeclip_d_right_answer"]["camera"] == "right"
    assert home.state("text.edgeclip_d_right_question") == 'Is "it" open?'
    assert home.state("image.edgeclip_d_right_picture") == "unknown"
    home.do("button", "press", entity_id="button.edgeclip_d_right_snapshot")
    eventually(
        lambda: home.state("image.edgeclip_d_right_picture").startswith("20"), "the picture has a time"
    )
    home.do("button", "press", entity_id="button.edgeclip_d_reload_configuration")
    eventually(lambda: home.state(last) == "reload done", "the reload is shown")
    assert home.shown()[last]["applied"] == []
    assert "Traceback" not in service.log


def test_a_home_assistant_that_starts_later_finds_the_device_and_forgets_one_that_is_given_up(
    home_assistant: str, tmp_path: Path
) -> None:
    needs.program("mosquitto", "mosquitto")
    with Mosquitto(tmp_path / "broker") as broker, Subscriber(broker) as subscriber:
        found = broker_settings(broker, ("left",))
        neighbour = broker_settings(broker, ("left",), device="e")
        with announced(tmp_path, found) as (_, announcer), announced(tmp_path, neighbour):
            eventually(lambda: len(subscriber.payloads(DISCOVERY)) == 1, "discovery")
            with HomeAssistant(home_assistant, broker) as home:

                def told_again() -> bool:
                    announcer.tick()
                    return len(subscriber.payloads(DISCOVERY)) == 2

                eventually(told_again, "its birth is answered")
                each = len(keys(found, Topics("edgeclip", "d")))
                eventually(lambda: len(home.registered()) == 2 * each, "two devices")
                forget(found, Topics("edgeclip", "d"))
                eventually(lambda: len(home.registered()) == each, "one is forgotten")
                assert all("edgeclip_e_" in entity for entity in home.registered())
