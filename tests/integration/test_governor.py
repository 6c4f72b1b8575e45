"""The running daemon on a machine that is hot, or lives on a battery: it does less, says so, and stays alive."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import needs
from tests.broker import Mosquitto, Subscriber, eventually
from tests.media import film, steady
from tests.service import Heard, Service

UNGATED = '[gate]\nmode = "off"\n'


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    needs.program("mosquitto", "mosquitto")
    needs.program("mosquitto_sub", "mosquitto-clients")
    with Mosquitto(tmp_path_factory.mktemp("broker")) as mosquitto:
        yield mosquitto


@pytest.fixture
def heard(broker: Mosquitto) -> Iterator[Callable[[], Heard]]:
    with Subscriber(broker, "edgeclip/v1/d/#") as subscriber:
        yield lambda: Heard(item for item in subscriber.received if not item.retain)


@pytest.fixture(scope="module")
def reel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return film(tmp_path_factory.mktemp("film") / "reel.mp4", steady(44, fps=8))


def machine(directory: Path, **files: str) -> dict[str, str]:
    """Make a directory that stands for /sys and return the environment that names it."""
    for name, text in files.items():
        path = directory / "sys" / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n", encoding="ascii")
    return {"STAND_IN_SYS": str(directory / "sys")}


def test_a_machine_at_its_hard_limit_works_on_nothing_and_says_why(
    tmp_path: Path, broker: Mosquitto, reel: Path, heard: Callable[[], Heard]
) -> None:
    env = machine(
        tmp_path,
        class__thermal__thermal_zone0__type="cpu-thermal",
        class__thermal__thermal_zone0__temp="96000",
        firmware__devicetree__base__model="Raspberry Pi 5 Model B Rev 1.0",
    )
    sources: dict[str, dict[str, object]] = {"cam": {"source": str(reel), "loop": True}}
    with Service(tmp_path, broker, sources, governed=True, more=UNGATED, env=env) as service:
        eventually(lambda: len(heard().skipped) >= 2, "two clips are announced", within_s=60)
        assert service.end() == 0
    got = heard()
    got.assert_whole()
    assert got.answers == []
    assert {clip["reason"] for clip in got.skipped[:2]} == {"heat"}
    last = got.health[-1]
    assert last["coverage"]["percent"] == 100
    assert last["temperature_c"] == 96.0
    assert (last["governor"]["name"], last["governor"]["causes"]) == ("skip", ["heat"])


def test_on_a_battery_clips_are_shown_thinned_and_answers_say_so(
    tmp_path: Path, broker: Mosquitto, reel: Path, heard: Callable[[], Heard]
) -> None:
    env = machine(
        tmp_path,
        class__power_supply__BAT0__type="Battery",
        class__power_supply__BAT0__status="Discharging",
        class__power_supply__BAT0__capacity="35",
        firmware__devicetree__base__model="Raspberry Pi 5 Model B Rev 1.0",
    )
    sources: dict[str, dict[str, object]] = {"cam": {"source": str(reel), "loop": True}}
    with Service(tmp_path, broker, sources, governed=True, more=UNGATED, env=env) as service:
        eventually(lambda: len(heard().answered("spatial")) >= 2, "two clips are answered", within_s=60)
        assert service.end() == 0
    got = heard()
    got.assert_whole()
    for answer in got.answered("spatial")[:2]:
        made = answer["provenance"]
        assert (made["rung"], made["rung_name"], made["rung_causes"]) == (4, "quarter rate", ["battery"])
        assert (made["pairs"], made["pairs_offered"]) == (2, 8)  # one pair a second
        assert made["energy_source"] == "estimated"
        assert made["energy_j"] > 0
        assert made["throttled"] is None  # nobody tells
        assert answer["status"] == "answered"  # thinner is no gap
    assert got.health[-1]["governor"]["battery_percent"] == 35
    assert got.health[-1]["cameras"][0]["rung"] == 4


def test_a_governor_that_is_switched_off_leaves_everything_as_it_is(
    tmp_path: Path, broker: Mosquitto, reel: Path, heard: Callable[[], Heard]
) -> None:
    env = machine(
        tmp_path,
        class__thermal__thermal_zone0__type="cpu-thermal",
        class__thermal__thermal_zone0__temp="96000",
    )
    sources: dict[str, dict[str, object]] = {"cam": {"source": str(reel), "loop": True}}
    with Service(tmp_path, broker, sources, more=UNGATED, env=env) as service:
        eventually(lambda: len(heard().answered("spatial")) >= 1, "a clip is answered", within_s=60)
        assert service.end() == 0
    made = heard().answered("spatial")[0]["provenance"]
    assert (made["rung"], made["pairs"], made["temperature_c"]) == (0, 8, 96.0)
