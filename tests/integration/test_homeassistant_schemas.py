"""Home Assistant's own schemas and templates accept every discovery message that we publish, and what feeds it.

    pytest -m slow tests/integration/test_homeassistant_schemas.py

It installs Home Assistant into a virtual environment of its own, once, in pytest's cache (600 MB, some minutes).
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from edge.deliver.homeassistant import discovery
from tests import needs
from tests.broker import Mosquitto, Subscriber
from tests.media import film, steady
from tests.service import Service
from tests.unit.deliver.test_homeassistant import settings, topics

HOME_ASSISTANT = "homeassistant==2025.4.4"
CLIENT = "paho-mqtt==2.1.0"  # of its MQTT integration, which it would install itself
PREFIX = "homeassistant/"
JUDGE = Path(__file__).with_name("homeassistant_judge.py")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def home_assistant(request: pytest.FixtureRequest) -> str:
    """The Python of an environment with Home Assistant."""
    directory = request.config.cache.mkdir(HOME_ASSISTANT.replace("==", "-"))
    python, done = directory / "bin" / "python", directory / "installed"
    if not done.exists():
        base = (
            sys.executable if sys.version_info[:2] == (3, 13) else needs.program("python3.13", "python3.13")
        )
        subprocess.run([base, "-m", "venv", "--clear", str(directory)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "-q", HOME_ASSISTANT, CLIENT], check=True)
        done.touch()
    return str(python)


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


def test_every_configuration_is_accepted(home_assistant: str) -> None:
    kinds = (("summary", "summary"), ("spatial", "spatial"), ("gate", "ask"), ("night", "summary"))
    many = tuple(f"camera-{n}" for n in range(16))
    configurations = [
        settings(),
        settings(many, kinds),
        settings(prompts=(("gate", "ask"),)),
        settings(clip={"seconds": 2.0, "fps": 1.0}, health={"every_s": 3600.0}),
        settings(mqtt={"root": "house/garden"}),
    ]
    cases = [case(discovery(found, topics(found))) for found in configurations]
    gone = {"yard.state.headline": "sensor", "health.yard.connected": "binary_sensor"}
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
