"""What the service says of itself: figures that add up, and nothing hidden."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import jsonschema
from hypothesis import given
from hypothesis import strategies as st

from edge.daemon import health
from edge.deliver.outbox import ClipRow, CoverageRow
from edge.messages import published_schema

START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def row(seconds: float = 60.0) -> ClipRow:
    return ClipRow(
        "0b9c7c5e-2b0f-5a63-9a0e-1f1f1f1f1f1f", "cam", 7, START.isoformat(), seconds, clock_synced=True
    )


def test_coverage_adds_up_over_cameras() -> None:
    total = health.coverage([CoverageRow(100, 60, 20, 10, 10), CoverageRow(60, 0, 0, 60, 0)])
    assert (total.total, total.answered, total.partial, total.skipped, total.in_hand) == (160, 60, 20, 70, 10)
    assert total.percent == 100


def test_time_that_lies_in_no_clip_shows() -> None:
    total = health.coverage([CoverageRow(80, 60, 0, 0, 20)], missing_s=20)
    assert (total.total, total.percent) == (100, 75)


def test_before_the_first_clip_nothing_is_missing() -> None:
    assert health.coverage([]).percent == 100
    assert health.coverage([CoverageRow(60, 0, 0, 0, 60)]).percent == 100


@given(late_s=st.floats(-3600, 3600))
def test_an_interrupted_clip_reaches_at_most_to_the_next_run(late_s: float) -> None:
    now = START + timedelta(seconds=late_s)
    end = health.interrupted(row(), now)
    assert (end.outcome, end.reason, end.seq) == ("skipped", "interrupted", 7)
    assert end.t_start == START
    assert end.t_start <= end.t_end <= max(now, START)
    assert end.t_end - end.t_start == timedelta(seconds=end.seconds) <= timedelta(seconds=60)


def test_a_clip_that_was_answered_in_part_is_announced_as_partial_and_says_what_was_answered() -> None:
    end = health.interrupted(replace(row(), answered=("summary",)), START + timedelta(seconds=30))
    assert (end.outcome, end.reason) == ("partial", "interrupted")
    told = health.skipped("d", end)
    assert (told.status, told.answered) == ("partial", ("summary",))
    jsonschema.validate(json.loads(told.payload()), published_schema("skipped"))


def test_an_announcement_is_valid_and_the_same_clip_has_the_same_id() -> None:
    first = health.skipped("d", health.interrupted(row(), START + timedelta(seconds=30)))
    again = health.skipped("d", health.interrupted(row(), START + timedelta(seconds=50)))
    assert first.id == again.id
    jsonschema.validate(json.loads(first.payload()), published_schema("skipped"))
    assert health.skipped_message("t", first).id == first.id
