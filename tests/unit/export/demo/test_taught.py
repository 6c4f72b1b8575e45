"""The clips that are taught: where they lie in the minute, what their key frames show, what they have more of than chance."""

import json
from dataclasses import replace

import numpy as np

from edge.capture.keyframe import KeyFrames
from edge.records import Size
from export.demo import taught
from export.demo.labels import BEGUN, CAMERA, FPS, NONE, SIGHTS, TOLD
from export.demo.schedule import Phase, Plan

ASKED = Phase("exact", 1.0, 1.0, (3,), None, questions=4, full=1.0, uses=2)


def test_a_clip_that_begins_later_differs_in_its_times_alone() -> None:
    phase = replace(ASKED, full=0.0)
    begun = times = 0
    for number in range(12):
        one, later = (
            taught.make_clip(
                Plan(phase, "a", 24, 1, gated=number % 2 == 0, still=True, first=first),
                np.random.default_rng(number),
                CAMERA,
            )
            for first in (0, 40)
        )
        assert later.kept == tuple(40 + pair for pair in one.kept)
        np.testing.assert_array_equal(later.cells, one.cells)
        clocks = [0, 12, 13]  # its own, when the event began, when the other one ended
        np.testing.assert_array_equal(
            np.delete(later.happened, clocks, axis=1), np.delete(one.happened, clocks, axis=1)
        )
        assert set(np.unique(later.happened[:, 0] - one.happened[:, 0])) == {40}
        begun += bool((later.happened[:, clocks[1]] - one.happened[:, clocks[1]] == 40).any())
        assert one.still is not None
        assert later.still is not None
        assert later.still.tick == one.still.tick + 80
        for before, after in zip(one.lessons[0], later.lessons[0], strict=True):
            assert before.prompt == after.prompt
            times += before.answer != after.answer
    assert begun >= 6
    assert times >= 6


def test_key_frames_show_what_the_service_would_choose_or_as_many_as_are_wanted() -> None:
    phase = replace(ASKED, questions=0, full=0.0, together=1.0)
    chosen = 0
    for number in range(10):
        plan = Plan(phase, "b", 40, 1, still=True)
        clip = taught.make_clip(plan, np.random.default_rng(number), CAMERA)
        assert clip.still is not None
        looks = KeyFrames(FPS)
        best = max(pair for pair, (first, _) in enumerate(clip.frames) if looks.see(first))
        if clip.still.tick == 2 * best:
            chosen += 1
        else:
            assert (clip.still.labels[-6 * SIGHTS :].reshape(SIGHTS, 6)[:2, 0] > 0).all()
    assert 3 <= chosen < 10


def test_what_is_hard_to_tell_is_taught_more_often_than_chance_has_it() -> None:
    """Two of one kind or colour, and two about as far apart as what is next to each other: a third and a quarter by chance."""
    plan = Plan(replace(ASKED, full=0.0, uses=1, together=1.0), "b", 24, 1, still=True)
    two = alike = close = 0
    for number in range(60):
        clip = taught.make_clip(plan, np.random.default_rng(number), Size(96, 128))
        for lesson in clip.lessons[0]:
            objects = json.loads(lesson.answer).get("objects", ()) if lesson.answer.startswith("{") else ()
            if len(objects) == 2:
                one, other = (each["label"].split() for each in objects)
                boxes = np.array([each["bbox_2d"] for each in objects]).reshape(2, 2, 2) * (128, 96) / 1000
                two += 1
                alike += any(a == b for a, b in zip(one, other, strict=True))
                close += (boxes[:, 0].max(0) - boxes[:, 1].min(0)).max() < 0.13 * 96
    assert two > 40
    assert alike > 0.4 * two
    assert close > 0.35 * two


def test_clips_in_which_nothing_happens_are_taught_as_often_as_the_plan_says() -> None:
    def silent(share: float) -> int:
        phase = replace(ASKED, full=0.0, uses=1, together=1.0, quiet=share)
        plan = Plan(phase, "b", 24, 1, still=True)
        clips = [taught.make_clip(plan, np.random.default_rng(number), Size(96, 128)) for number in range(40)]
        return sum(bool((clip.happened[:, BEGUN.start] == 0).all()) for clip in clips)

    assert silent(0.0) <= 3  # one in forty by chance
    assert 12 <= silent(0.5) <= 30
    assert silent(1.0) == 40


def test_without_a_key_frame_somebody_has_left_by_the_end_as_often_as_not() -> None:
    """Boxes are asked of the clip's end then: who was seen and has left is not to be told."""
    plan = Plan(replace(ASKED, full=0.0, uses=1, together=1.0), "b", 48, 1)
    at_end: list[int] = []
    for number in range(40):
        clip = taught.make_clip(plan, np.random.default_rng(number), Size(96, 128))
        seen = clip.happened[:, TOLD.stop - 3]  # how many can be seen
        assert seen.max() >= 2
        at_end.append(int(seen[-1]))
    assert 8 <= sum(each >= 2 for each in at_end) <= 34  # all 40 where only such clips are taken


def test_a_crowd_is_asked_where_each_of_a_few_is_that_stand_apart() -> None:
    plan = Plan(replace(ASKED, full=0.0), "b", 3, 1, still=True, first=7, crowd=True)
    shown, same = [], 0
    for number in range(20):
        clip = taught.make_gathering(plan, np.random.default_rng(number), CAMERA)
        assert clip.still is not None
        assert clip.kept == (7, 8, 9)
        assert clip.still.tick in (14, 16, 18)
        assert clip.happened[:, 0].tolist() == [7, 8, 9]
        assert (clip.happened[:, TOLD] == NONE).all()
        ((lesson,), again) = clip.lessons
        assert again[0].answer == lesson.answer
        assert lesson.shown
        body = json.loads(lesson.answer)
        labels = [each["label"] for each in body["objects"]]
        assert len(set(labels)) == len(labels)
        assert body["relations"] == []  # none is behind another, and boxes show the rest
        shown.append(len(labels))
        # The key frame is taken from the clip; in the pair's second picture somebody may have left.
        pair = clip.happened[clip.still.tick // 2 - 7, -6 * SIGHTS :: 6]
        same += pair.tolist() == clip.still.labels[-6 * SIGHTS :: 6].tolist()
    assert set(shown) == {2, 3, 4}
    assert same >= 15


def test_a_crowd_without_a_key_frame_is_asked_where_all_is_at_its_end() -> None:
    plan = Plan(replace(ASKED, full=0.0), "b", 3, 1, crowd=True)
    for number in range(10):
        clip = taught.make_gathering(plan, np.random.default_rng(number), CAMERA)
        assert clip.still is None
        ((lesson,), _) = clip.lessons
        assert not lesson.shown
        objects = json.loads(lesson.answer)["objects"]
        assert 2 <= len(objects) <= 4
        # What the last pair shows at both of its pictures: where it is asked, nobody of the pairs before is left.
        kinds = clip.happened[-1, -6 * SIGHTS :: 6]
        assert np.count_nonzero(kinds) == min(SIGHTS, len(objects))
