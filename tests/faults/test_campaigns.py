"""The fault campaigns, each in a short version here and, under the marker ``slow``, at the size of their promise.

nice python -m tests.faults.kills --kills 1000 --answers 2000      kill -9 of the daemon
nice python -m tests.faults.power --clips 120 --samples 6          power loss
nice python -m tests.faults.brokers --restarts 100 --kills 100     a broker restarted, killed, away for a day
nice python -m tests.faults.wear --clips 1440                      bytes written in a day
nice python -m tests.faults.answers --answers 10000                answers from any logits
nice python -m tests.faults.schemas --schemas 10000                schemas from strangers
"""

from __future__ import annotations

from pathlib import Path

import pytest

from edge.share import demo_bundle
from tests import needs
from tests.faults import answers, brokers, power, schemas, wear
from tests.faults.kills import Campaign

HOURS = 3600


@pytest.fixture
def _mosquitto() -> None:
    needs.program("mosquitto", "mosquitto")
    needs.program("mosquitto_sub", "mosquitto-clients")


def size(small: int, whole: int) -> pytest.MarkDecorator:
    """Run a campaign twice: small by default, whole under the marker ``slow``."""
    marks = (pytest.mark.slow, pytest.mark.timeout(2 * HOURS))
    return pytest.mark.parametrize("count", [small, pytest.param(whole, marks=marks)])


@size(3, 1000)
@pytest.mark.usefixtures("_mosquitto")
def test_whenever_the_daemon_is_killed_every_committed_answer_arrives_and_no_other(
    tmp_path: Path, count: int
) -> None:
    result = Campaign(tmp_path, kills=count, answers=2 * count, seed=count).run()
    assert result.kills >= count
    assert result.answers >= 2 * count
    assert result.children >= count


@size(4, 120)
def test_wherever_the_power_fails_the_outbox_opens_and_has_every_committed_answer(
    tmp_path: Path, count: int
) -> None:
    needs.program("strace", "strace")
    steps = power.record(tmp_path, count)
    result = power.replay(steps, tmp_path, samples=1 if count < 10 else 6)
    assert result.states >= 3 * len(steps)
    assert result.syncs > 3 * count


@size(3, 100)
@pytest.mark.usefixtures("_mosquitto")
def test_a_restarted_broker_gets_every_answer_to_its_subscriber(tmp_path: Path, count: int) -> None:
    assert brokers.restarts(tmp_path, count).answers > count


@size(3, 100)
@pytest.mark.usefixtures("_mosquitto")
def test_whenever_the_broker_is_killed_what_it_acknowledged_is_gone_and_nothing_else(
    tmp_path: Path, count: int
) -> None:
    assert brokers.kills(tmp_path, count).answers > count


@size(1, 24)
@pytest.mark.usefixtures("_mosquitto")
def test_after_an_outage_what_did_not_arrive_is_exactly_what_was_announced(
    tmp_path: Path, count: int
) -> None:
    result = brokers.outage(tmp_path, hours=count, max_bytes=count << 16)
    assert result.dropped > 0
    assert result.received + result.dropped == result.messages
    assert result.announcements >= len(brokers.CAMERAS)


@size(5, 1440)
@pytest.mark.usefixtures("_mosquitto")
def test_the_bytes_written_stay_within_their_budget(tmp_path: Path, count: int) -> None:
    assert wear.measure(tmp_path, clips=count).mib_a_day < wear.BUDGET_MIB


@size(60, 10_000)
def test_answers_are_valid_bounded_and_say_when_they_were_cut_short(count: int) -> None:
    found = answers.run(demo_bundle(), answers=count, seed=1)
    assert found["answers"] == count
    assert found["truncated"] > 0


@size(300, 10_000)
def test_under_a_stranger_s_schema_every_answer_is_valid_and_ends_or_the_schema_is_refused(
    count: int,
) -> None:
    found = schemas.Campaign(seed=1).run(count)
    assert found["hostile"] == found["usual"] == count // 2
    assert found["taken"] > count // 4
    assert found["answers"] > found["taken"]
