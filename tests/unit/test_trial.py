"""Prompts are tried on clips whose answers are known, and scored."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest

from edge.answer.assemble import Author, Work, Written, assemble
from edge.errors import ConfigError
from edge.messages import Answer, Verdict, Watched, clip_id
from edge.records import ClipPlan, ClipStats, Prompt, Size
from edge.trial import Expected, auroc, trial

TRUE = """
seconds = 10.0
events = [{ words = ["person"], start = 1.0, end = 3.0 }, { words = ["dog"], start = 5.0, end = 6.0 }]
objects = [{ label = "car", box = [0.1, 0.1, 0.5, 0.5] }, { label = "dog", box = [0.6, 0.6, 0.9, 0.9] }]
[counts]
people = 1
animals = 2
[watch]
"Is it day?" = "yes"
"Is it raining?" = "no"
"Is a cat there?" = "yes"
"Is a cow there?" = "no"
[ask]
"What colour is the car?" = ["red"]
"""
SAID = {
    "summary": '{"headline":"h","summary":"s","events":[{"what":"a Person walks","start":0.5,"end":3.5},'
    '{"what":"a dog","start":1,"end":2}],"counts":{"people":1,"vehicles":1,"animals":0}}',
    "spatial": '{"headline":"h","objects":[{"label":"red car","bbox_2d":[110,100,500,480]},'
    '{"label":"dog","bbox_2d":[0,0,100,100]}],"relations":[]}',
    "ask": '{"text":"It is Red."}',
}
VERDICTS: dict[str, tuple[Verdict, float]] = {
    "Is it day?": ("yes", 0.9),
    "Is it raining?": ("no", 0.8),
    "Is a cat there?": ("unsure", 0.4),
    "Is a cow there?": ("yes", 0.8),
}


def look(_clip: Path, expected: Expected, prompts: list[Prompt]) -> Sequence[Answer]:
    plan = ClipPlan(
        camera="file",
        seq=0,
        clip_id=clip_id("d", "file", "e", 0),
        t_start=datetime(2026, 1, 1, tzinfo=UTC),
        clock_synced=True,
        seconds=expected.seconds,
        fps=8.0,
        size=Size(64, 96),
        source_size=Size(64, 96),
    )
    return [
        assemble(
            Written(SAID.get(prompt.kind, ""), (), 1, 1, truncated=False),
            device="d",
            plan=plan,
            stats=ClipStats(10.0, 80, 80, 0, 0, 40, 0.0, (), 0.0),
            prompt=prompt,
            author=Author("m", "0" * 64, "r", ""),
            work=Work(40, 0.0, 0.0, 0.0, None, None),
            watches=[
                Watched(
                    rule=each.rule,
                    question=each.question,
                    answer=VERDICTS[each.question][0],
                    first=VERDICTS[each.question][0],
                    confidence=VERDICTS[each.question][1],
                )
                for each in prompt.questions
            ],
        )
        for prompt in prompts
    ]


def test_what_is_right_is_counted_by_what_was_asked(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").touch()
    (tmp_path / "a.toml").write_text(TRUE)
    (tmp_path / "other.mp4").touch()  # nothing is known of it
    figures = trial(tmp_path, None, look).figures()
    assert figures["events"] == {"right": 1, "of": 2}
    assert figures["objects"] == {"right": 1, "of": 2}
    assert figures["counts"] == {"right": 1, "of": 2}
    assert figures["ask"] == {"right": 1, "of": 1}
    assert figures["watch"] == {
        "questions": 4,
        "right": 2,
        "unsure": 1,
        "precision": 0.5,
        "recall": 0.5,
        "confidence_auroc": 0.875,
    }


def test_own_prompts_are_tried(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").touch()
    (tmp_path / "a.toml").write_text('seconds = 10.0\n[watch]\n"Is it day?" = "yes"\n')
    own = tmp_path / "mine.toml"
    own.write_text(
        '[[prompt]]\nname = "w"\nkind = "watch"\ntext = "A yard."\n[answers]\nkey_frame_tokens = 200\n'
    )
    seen: list[Prompt] = []

    def note(clip: Path, expected: Expected, prompts: list[Prompt]) -> Sequence[Answer]:
        seen.extend(prompts)
        return look(clip, expected, prompts)

    trial(tmp_path, own, note)
    (watch,) = seen
    assert watch.questions[0].text.startswith("A yard.\nIs it day?")
    assert watch.still_tokens == 200


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [("a.toml", "secnds = 3", "unknown key"), ("b.toml", "", "no video"), ("a.toml", "x", "not valid TOML")],
)
def test_a_folder_that_cannot_be_tried_is_refused(tmp_path: Path, name: str, text: str, told: str) -> None:
    (tmp_path / "a.mp4").touch()
    (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError) as caught:
        trial(tmp_path, None, look)
    assert told in caught.value.render()


def test_the_area_under_the_curve_tells_sure_from_unsure() -> None:
    assert auroc([(0.9, True), (0.8, True), (0.3, False)]) == 1.0
    assert auroc([(0.3, True), (0.9, False)]) == 0.0
    assert auroc([(0.5, True), (0.5, False)]) == 0.5
    assert auroc([(0.5, True)]) is None
