"""The examination of a watchman runs on any bundle, and counts every question once."""

from __future__ import annotations

import json

from edge.model.bundle import open_bundle
from edge.model.engine import Engine
from edge.share import demo_bundle
from export.demo import exam, watches


def test_every_question_is_asked_and_places_are_scored_with_and_without_the_key_frame() -> None:
    with Engine(open_bundle(demo_bundle())) as engine:
        shown = exam.film(engine, watches.FIRST_SEED, "a", stills=True)
        found = watches.examine(engine, "a", clips=1, key_frame_tokens=64, check=True)
        _, sharp, plain = watches.take(engine, shown, 0, key_frame_tokens=64, check=False)
    assert found["questions"] == len(watches.questions_of(shown)) > len(watches.RULES)
    assert found["places"].keys() == found["small_boxes"].keys() == {"key_frame", "plain"}
    assert sharp.key_frame is not None
    assert plain.key_frame is None
    json.dumps(found)
