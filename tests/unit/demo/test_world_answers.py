"""Right answers are answers: valid under the schema that the model decodes under, true to the events, in plain words."""

import json
import re
from decimal import Decimal
from functools import cache
from typing import Any

import jsonschema
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.answer.schema import model_schema
from edge.demo.world import Question, Stage, Truth, answer, asked, draw_scene, questions, truth
from edge.demo.world.vocabulary import a
from edge.messages import BODIES, MAX_OBJECTS

CLIPS = 60

stages: st.SearchStrategy[Stage] = st.sampled_from(["a", "b", "c"])


def exact(value: Any) -> Any:
    """Numbers as decimals: 5.1 is a multiple of 0.1."""
    return json.loads(json.dumps(value), parse_float=Decimal)


@cache
def all_asked(stage: Stage) -> list[tuple[Truth, Question]]:
    rng = np.random.default_rng(3)
    return [
        (true, question)
        for true in (truth(draw_scene(seed, stage)) for seed in range(CLIPS))
        for question in asked(true, rng)
    ]


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32), stages, st.sampled_from([None, 0.5, 2.0, 7.37, 12.0]))
def test_every_true_answer_can_be_decoded_and_published(
    seed: int, stage: Stage, seconds: float | None
) -> None:
    scene = draw_scene(seed, stage, seconds=seconds, split="held_out")
    true = truth(scene)
    for kind, body in BODIES.items():
        said = answer(true, kind)
        assert body.model_validate(said).model_dump(mode="json") == said
        jsonschema.validate(exact(said), exact(model_schema(kind, seconds=scene.seconds)))
    assert len(answer(true, "spatial")["objects"]) == len(true.sights()) <= MAX_OBJECTS
    for x1, y1, x2, y2 in (item["bbox_2d"] for item in answer(true, "spatial")["objects"]):
        assert x1 < x2
        assert y1 < y2


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32), stages)
def test_a_summary_tells_every_event_in_order_with_its_time(seed: int, stage: Stage) -> None:
    true = truth(draw_scene(seed, stage))
    said = answer(true, "summary")
    times = [event["start"] for event in said["events"]]
    assert times == sorted(times)
    assert [float(at) for at in re.findall(r"at (\d+\.\d) s", said["summary"], re.IGNORECASE)] == times
    for event in true.events:
        assert event.what == f"{a(true.scene.sprites[event.sprite].label)} {event.does}"
        assert event.does in said["summary"]
    for text in (said["headline"], said["summary"]):
        assert text[0].isupper()
        assert text.endswith(".")


def test_there_is_no_other_kind_of_answer() -> None:
    with pytest.raises(ValueError, match="poem"):
        answer(truth(draw_scene(1, "a")), "poem")


def test_every_topic_is_asked_about_in_every_stage() -> None:
    for stage in ("a", "b", "c"):
        topics = {question.topic for _, question in all_asked(stage)}
        assert topics == {"place", "count", "watch", "order", "time"}


def test_the_same_draws_ask_the_same_questions() -> None:
    scene = draw_scene(4, "b")
    one, other = (questions(scene, np.random.default_rng(9)) for _ in range(2))
    assert one == other
    assert one == [(q.text, q.answer) for q in asked(truth(scene), np.random.default_rng(9))]


def test_places_are_where_the_boxes_are() -> None:
    said = 0
    for true, question in all_asked("c"):
        if question.topic == "place":
            seen = next(seen for seen in true.sights() if f" {seen.label} " in question.text)
            x1, y1, x2, y2 = seen.box
            assert ("on the left" in question.answer) == ((x1 + x2) / 2 < 1000 / 3)
            assert ("on the right" in question.answer) == ((x1 + x2) / 2 > 2000 / 3)
            assert ("at the top" in question.answer) == ((y1 + y2) / 2 < 1000 / 3)
            assert ("at the bottom" in question.answer) == ((y1 + y2) / 2 > 2000 / 3)
            said += 1
    assert said > 20


def test_counts_are_counted_at_the_end() -> None:
    for true, question in all_asked("b"):
        if question.topic == "count":
            group = question.text.split()[2]
            assert re.fullmatch(rf"There (is|are) {true.counts()[group]} \w+\.", question.answer)


def test_a_watchman_hears_yes_and_no_and_both_are_true() -> None:
    heard = {"Yes.": 0, "No.": 0}
    for true, question in all_asked("b"):
        entering = re.fullmatch(r"Does an? (.+) enter\?", question.text)
        if entering:
            came = any(
                event.kind == "enter" and true.scene.sprites[event.sprite].label == entering[1]
                for event in true.events
            )
            assert question.answer == ("Yes." if came else "No.")
            heard[question.answer] += 1
    assert min(heard.values()) > CLIPS / 3


def test_who_came_first_came_at_least_a_second_earlier() -> None:
    said = 0
    for true, question in all_asked("b"):
        if question.topic == "order":
            names = re.fullmatch(r"What came first, the (.+) or the (.+)\?", question.text)
            assert names
            came = {
                name: next(
                    event.start_s
                    for event in true.events
                    if event.kind == "enter" and true.scene.sprites[event.sprite].label == name
                )
                for name in names.groups()
            }
            first = min(came, key=lambda name: came[name])
            assert question.answer == f"The {first} came first."
            assert abs(came[names[1]] - came[names[2]]) >= 1
            said += 1
    assert said > 5
