"""What a clip is asked in training: the shipped words to the letter, and answers that are valid bodies."""

import json

import numpy as np

from edge.answer.prompts import default_text, prompt_from, watch_text
from edge.config import PromptSettings
from edge.demo.world import draw_scene, truth
from edge.messages import BODIES
from export.demo.lessons import MORE_COMINGS, MORE_WATCHED, body_text, lessons, texts


def shipped(kind: str) -> str:
    return prompt_from(PromptSettings(name=kind, kind=kind)).text


def form(kind: str) -> str:
    """Return the sentence that ends every prompt of a kind."""
    if kind == "watch":
        return watch_text("Words.").rpartition("\n")[2]
    return prompt_from(PromptSettings(name=kind, kind=kind, text="Words.")).text.rpartition("\n")[2]


def test_the_shipped_prompts_are_taught_to_the_letter() -> None:
    rng = np.random.default_rng(0)
    true = truth(draw_scene(1, "a"))
    asked = [lesson.prompt for _ in range(40) for lesson in lessons(true, rng, count=4, full=1.0)]
    for kind in ("summary", "spatial"):
        assert asked.count(shipped(kind)) > 10
        assert sum(default_text(kind) in prompt for prompt in asked) < 40  # and others as well


def test_every_json_answer_is_a_body() -> None:
    rng = np.random.default_rng(0)
    found = set()
    for seed in range(20):
        for lesson in lessons(truth(draw_scene(seed, "c")), rng, count=4, full=1.0):
            kind = next((kind for kind in BODIES if lesson.prompt.endswith(form(kind))), None)
            assert (kind is not None) == lesson.answer.startswith("{")
            if kind is not None:
                assert (
                    body_text(BODIES[kind].model_validate_json(lesson.answer).model_dump()) == lesson.answer
                )
                found.add(kind)
    assert found == set(BODIES)


def test_fewer_questions_are_a_choice_of_all() -> None:
    rng = np.random.default_rng(0)
    true = truth(draw_scene(2, "a"))
    asked = {lesson.prompt for _ in range(60) for lesson in lessons(true, rng, count=2, full=0.0)}
    assert {"Summary in JSON.", "Boxes in JSON."} < asked
    assert all(len(lessons(true, rng, count=count, full=0.0)) == count for count in (1, 2, 3))


def test_where_much_is_asked_what_a_watch_asks_comes_on_top_with_the_key_frame_or_without() -> None:
    rng = np.random.default_rng(0)
    some = (truth(draw_scene(seed, "b")) for seed in range(50))
    true = next(true for true in some if any(event.kind == "enter" for event in true.events))
    on_top, shown = MORE_WATCHED + 2 * MORE_COMINGS, []
    for _ in range(60):
        found = lessons(true, rng, count=4, full=0.0, still=4)
        assert len(found) == 4 + on_top
        for lesson in found[4:]:
            body = BODIES["watch"].model_validate_json(lesson.answer)
            assert body_text(body.model_dump()) == lesson.answer
            shown.append(lesson.shown)
        questions = {lesson.prompt.split("?")[0] for lesson in found[4 : 4 + MORE_WATCHED]}
        assert len(questions) == MORE_WATCHED
        comings = found[4 + MORE_WATCHED :]
        assert all(lesson.prompt.split("?")[0].endswith("enter") for lesson in comings)
        assert sum('"answer":"yes"' in lesson.answer for lesson in comings) == MORE_COMINGS
    assert 0.35 < np.mean(shown) < 0.65


def test_who_always_says_that_there_are_none_is_right_in_half_of_the_counts() -> None:
    rng = np.random.default_rng(0)
    true = next(
        true for seed in range(20) if sum((true := truth(draw_scene(seed, "a"))).counts().values()) == 1
    )
    asked = [lesson for _ in range(400) for lesson in lessons(true, rng, count=4, full=0.0)]
    counts = [lesson.answer for lesson in asked if lesson.prompt.startswith("How many")]
    none = sum("There are 0" in answer for answer in counts)
    assert 0.4 * len(counts) < none < 0.6 * len(counts)
    assert len(counts) > 100


def test_who_always_says_that_whoever_is_asked_about_has_come_is_right_half_the_time() -> None:
    rng = np.random.default_rng(0)
    some = (truth(draw_scene(seed, "b")) for seed in range(50))
    true = next(true for true in some if sum(event.kind == "enter" for event in true.events) > 1)
    asked = [lesson for _ in range(800) for lesson in lessons(true, rng, count=4, full=0.0)]
    came = [lesson for lesson in asked if " enter? Yes or no" in lesson.prompt]
    said = [json.loads(lesson.answer) for lesson in came]
    yes = sum(each["answer"] == "yes" for each in said)
    assert 0.4 * len(came) < yes < 0.6 * len(came)
    for lesson, each in zip(came, said, strict=True):
        name = lesson.prompt.removeprefix("Does ").partition(" enter?")[0]
        assert (name in each["seen"].lower()) is (each["answer"] == "yes")  # it can be read there
    assert len(came) > 60


def test_the_tokenizer_reads_every_prompt_and_the_same_text_each_time() -> None:
    words = list(texts(clips=6, seed=1))
    assert words == list(texts(clips=6, seed=1))
    assert any(text.endswith(" seconds>") for text in words)
