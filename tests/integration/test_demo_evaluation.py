"""The examination of the demo model: real video through the service's own path, falsified on request, and marked."""

import json
from collections.abc import Iterator
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge.demo.world import answer
from edge.messages import Answer, Box, Event, Relation, SeenObject
from edge.model.bundle import open_bundle
from edge.model.engine import Engine
from export.demo import exam, page
from export.demo.evaluate import examine, figures, table
from export.demo.exam import FALSE, Film
from export.demo.labels import FPS

SECONDS = 2.0
SEED = 11  # with events, a thing in the last picture, and questions


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    """The bundle inside the package."""
    with Engine(open_bundle(Path(str(files("edge.demo") / "bundle"))), threads=1) as engine:
        yield engine


@pytest.fixture(scope="module")
def film(engine: Engine) -> Film:
    return exam.film(engine, SEED, "a", seconds=SECONDS)


def told(film: Film, said: Answer) -> tuple[Answer, ...]:
    """Put the truth into the answers' place."""
    summary, spatial = answer(film.true, "summary"), answer(film.true, "spatial")
    events = tuple(Event(**event, valid=True) for event in summary["events"])
    objects = tuple(
        SeenObject(
            label=each["label"],
            box=Box(**dict(zip(("x1", "y1", "x2", "y2"), np.array(each["bbox_2d"]) / 1000, strict=True))),
            valid=True,
        )
        for each in spatial["objects"]
    )
    relations = tuple(Relation(**each) for each in spatial["relations"])
    return (
        said.model_copy(update={"events": events}),
        said.model_copy(update={"objects": objects, "relations": relations}),
        *(said.model_copy(update={"text": question.answer}) for question in film.questions),
    )


def test_a_clip_comes_out_of_the_capture_path_as_it_was_drawn(film: Film) -> None:
    assert len(film.pairs) == film.scene.ticks // 2
    assert film.size == film.scene.size
    assert [pair.time_s for pair in film.pairs] == [(2 * i + 0.5) / FPS for i in range(len(film.pairs))]
    assert film.scene.split == "held_out"


def test_the_truth_is_all_right_and_nothing_else_is(engine: Engine, film: Film) -> None:
    answers = exam.take(engine, film, "streamed")
    best = exam.mark(film, told(film, answers[0]))
    assert film.true.events
    assert film.true.sights()
    for name, (right, of) in best.items():
        assert right == of, name
    assert best["event_f1"][1] > 0
    said, *rest = told(film, answers[0])
    late = tuple(
        event.model_copy(update={"start": event.start + 0.6, "end": event.end + 0.6}) for event in said.events
    )
    assert exam.mark(film, (said.model_copy(update={"events": late}), *rest))["event_f1"][0] == 0


def test_streamed_and_at_once_answer_alike(engine: Engine, film: Film) -> None:
    one, other = (exam.take(engine, film, way) for way in ("streamed", "one-shot"))
    assert [a.headline for a in one] == [a.headline for a in other]
    assert len(one) == 2 + len(film.questions)


def test_a_falsified_clip_is_the_same_but_for_one_thing(engine: Engine, film: Film) -> None:
    other = exam.film(engine, SEED + 1, "a", seconds=SECONDS)
    whole = np.concatenate([pair.frames for pair in film.pairs])
    times = [pair.time_s for pair in film.pairs]

    shuffled = exam.show(film, "shuffled")
    mixed = np.concatenate([pair.frames for pair in shuffled])
    assert [pair.time_s for pair in shuffled] == times
    assert not np.array_equal(mixed, whole)
    np.testing.assert_array_equal(np.sort(mixed.sum((1, 2, 3))), np.sort(whole.sum((1, 2, 3))))

    restamped = exam.show(film, "restamped")
    assert sorted(pair.time_s for pair in restamped) == times
    assert [pair.time_s for pair in restamped] != times
    np.testing.assert_array_equal(np.concatenate([pair.frames for pair in restamped]), whole)

    swapped = exam.show(film, "swapped", other=other)
    assert [pair.time_s for pair in swapped] == times
    np.testing.assert_array_equal(swapped[3].frames, other.pairs[3].frames)
    assert len(exam.take(engine, film, "swapped", other=other)) == 1


def test_an_examination_gives_a_table_and_one_line_of_json(engine: Engine) -> None:
    found = examine(engine, "a", clips=1, checks=1, seconds=1.0)
    line: dict[str, Any] = json.loads(json.dumps(figures(found)))
    assert line["recipe"] == "int8"
    assert line["clips"] == 1
    assert line["one_shot_differs"] == [0, 1]
    assert set(line["falsified"]) == set(FALSE)
    text = table([line, line])
    assert "event_f1" in text
    assert "shuffled: event_f1" in text


def test_the_page_shows_truth_and_answer_and_lets_no_markup_in(engine: Engine, film: Film) -> None:
    answers = list(exam.take(engine, film, "streamed"))
    answers[0] = answers[0].model_copy(update={"headline": "<script>"})
    html = page.draw([(replace(film), answers)], "int8")
    assert film.true.headline in html
    assert "&lt;script&gt;" in html
    assert "<script>" not in html
    assert "data:image/png;base64," in html
