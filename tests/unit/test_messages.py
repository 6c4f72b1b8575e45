"""The wire types: ids are stable, times are UTC, the published schemas stay open, the model-written ones closed."""

from __future__ import annotations

import json
import pickle
from datetime import UTC, datetime, timedelta, timezone

import jsonschema
import pytest
from pydantic import ValidationError

from edge.errors import BundleError, EdgeError
from edge.messages import BODIES, PUBLISHED, Skipped, clip_id, message_id, published_schema

CLIP = clip_id("edge", "door", "epoch", 3)


def skipped(t_start: datetime) -> Skipped:
    return Skipped(
        id=message_id(CLIP, "skipped"),
        clip_id=CLIP,
        seq=3,
        device="edge",
        camera="door",
        t_start=t_start,
        t_end=t_start + timedelta(seconds=60),
        clock_synced=True,
        reason="backlog",
        detail="",
    )


def test_ids_never_change() -> None:
    # Written down: a subscriber that keeps ids must recognise a message that is sent again by a later version.
    assert CLIP == "9d91a350-d3cf-56e1-a30e-5d76ad4cd64b"
    assert message_id(CLIP, "summary") == "3f1af257-7d91-554f-94da-318eddfdf485"


def test_ids_differ_with_everything_they_are_made_of() -> None:
    made = {clip_id(d, c, e, s) for d in "ab" for c in "ab" for e in "ab" for s in (0, 1)}
    assert len(made) == 16
    assert message_id(CLIP, "summary") != message_id(CLIP, "spatial")


def test_times_are_published_in_utc_with_milliseconds() -> None:
    moment = datetime(2026, 11, 22, 13, 0, 0, 123456, timezone(timedelta(hours=1)))
    assert json.loads(skipped(moment).payload())["t_start"] == "2026-11-22T12:00:00.123Z"


def test_a_time_without_zone_is_refused() -> None:
    with pytest.raises(ValidationError):
        skipped(datetime(2026, 11, 22, 13, 0, 0))  # noqa: DTZ001 - that is the point


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_a_published_schema_allows_fields_of_later_versions(name: str) -> None:
    schema = published_schema(name)
    jsonschema.Draft202012Validator.check_schema(schema)
    assert '"additionalProperties": false' not in json.dumps(schema)
    assert schema["properties"]["schema"]["const"] == f"edgeclip.{name}/1"


def test_a_message_validates_under_its_schema_also_with_more_fields() -> None:
    payload = json.loads(skipped(datetime.now(UTC)).payload())
    jsonschema.validate(payload | {"later": 1}, published_schema("skipped"))
    assert Skipped.model_validate_json(json.dumps(payload | {"later": 1})).seq == 3


@pytest.mark.parametrize("kind", sorted(BODIES))
def test_what_the_model_writes_is_closed_and_bounded(kind: str) -> None:
    text = json.dumps(BODIES[kind].model_json_schema())
    assert text.count('"type": "object"') == text.count('"additionalProperties": false')
    assert text.count('"type": "string"') == text.count('"maxLength"') + text.count('"enum"')
    assert text.count('"type": "array"') == text.count('"maxItems"')


def test_an_error_tells_what_why_and_what_next_and_survives_a_pipe() -> None:
    error: EdgeError = BundleError(
        "bundle b is damaged", evidence=["size 3, expected 4"], next_step="Copy it again."
    )
    error = pickle.loads(pickle.dumps(error))
    assert error.render() == "error: bundle b is damaged\n  size 3, expected 4\n  Copy it again."
    assert error.exit_code == 78
