"""Watches in the running service: from an answer to an alert at a subscriber, over a restart, and nothing of the model's in a topic."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import needs
from tests.broker import Mosquitto, Subscriber, eventually
from tests.media import film, steady
from tests.service import Heard, Service

# The stand-in says yes of the clips whose numbers stand in the question.
WATCH = """
[[watch]]
id = "parcel"
question = "Is it one of the clips 3 4 5 ?"
yes = 2
no = 2
of = 2
"""
STATE = "edgeclip/v1/d/cam/alert/parcel/state"


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    needs.program("mosquitto", "mosquitto")
    needs.program("mosquitto_sub", "mosquitto-clients")
    with Mosquitto(tmp_path_factory.mktemp("broker")) as mosquitto:
        yield mosquitto


@pytest.fixture(scope="module")
def six_clips(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, object]]:
    """12 s at 8 pictures a second, read as fast as the stand-in follows."""
    path = film(tmp_path_factory.mktemp("film") / "reel.mp4", steady(96, fps=8))
    return {"cam": {"source": str(path), "realtime": False}}


def test_an_alert_is_raised_kept_over_a_restart_and_cleared(
    tmp_path: Path, broker: Mosquitto, six_clips: dict[str, dict[str, object]]
) -> None:
    with Subscriber(broker, "edgeclip/v1/d/#") as subscriber:
        with Service(tmp_path, broker, six_clips, more=WATCH) as service:
            assert service.end(None) == 0
        (first,) = Heard(subscriber.received).alerts
        with Subscriber(broker, STATE) as late:
            eventually(lambda: bool(late.received), "the state was retained")
            retained = late.received[0]
        with Service(tmp_path, broker, six_clips, more=WATCH) as service:
            assert service.end(None) == 0
        got = Heard(subscriber.received)
    assert (first["state"], first["seq"], first["answers"]) == ("raised", 4, ["yes", "yes"])
    assert first["rule"] == "parcel"
    assert retained.retain
    assert json.loads(retained.payload)["state"] == "raised"
    assert [(alert["state"], alert["seq"]) for alert in got.alerts] == [("raised", 4), ("cleared", 7)]
    assert got.alerts[1]["since"] == first["time"]
    answers = got.answered("watch")
    assert [answer["seq"] for answer in answers] == list(range(12))
    assert answers[3]["watches"][0]["answer"] == "yes"
    assert {item.topic for item in subscriber.received if "/alert/" in item.topic} == {
        "edgeclip/v1/d/cam/alert/parcel",
        STATE,
    }
    assert service.coverage().answered_s == pytest.approx(24.0)


def test_a_watch_that_is_taken_out_is_cleared_and_its_state_emptied(
    tmp_path: Path, broker: Mosquitto, six_clips: dict[str, dict[str, object]]
) -> None:
    with Service(tmp_path, broker, six_clips, more=WATCH) as service:
        assert service.end(None) == 0
    with Subscriber(broker, "edgeclip/v1/d/#") as subscriber:
        with Service(tmp_path, broker, six_clips) as service:
            assert service.end(None) == 0
        emptied = [item.payload for item in subscriber.received if item.topic == STATE and not item.retain]
        received = [item for item in subscriber.received if item.topic != STATE]
    assert not emptied[-1]
    (alert,) = Heard(received).alerts
    assert (alert["state"], alert["reason"]) == ("cleared", "changed")
