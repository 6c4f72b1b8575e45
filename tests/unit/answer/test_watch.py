"""Watches: how answers become an alert and the end of one, and that a restart neither repeats nor forgets any."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.answer.assemble import Author, Work, Written, assemble
from edge.answer.prompts import for_camera, prompts_from
from edge.answer.watch import Change, Watches
from edge.config import Settings, WatchSettings
from edge.messages import Alert, Answer, Verdict, Watched, clip_id
from edge.records import ClipPlan, ClipStats, Prompt, Size

START = datetime(2026, 11, 1, 12, tzinfo=UTC)
QUESTION = "Is a parcel at the door?"
YES, NO, UNSURE = get_args(Verdict)


def rule(**keys: object) -> WatchSettings:
    return WatchSettings.model_validate({"id": "parcel", "question": QUESTION, "hold_off_s": 0} | keys)


def answer(seq: int, *verdicts: Verdict, camera: str = "door", at: datetime | None = None) -> Answer:
    """Return what one clip of a minute said to a watch."""
    names = ("parcel", "gate")[: len(verdicts)]
    plan = ClipPlan(
        camera=camera,
        seq=seq,
        clip_id=clip_id("pi", camera, "epoch", seq),
        t_start=at or START + timedelta(minutes=seq),
        clock_synced=True,
        seconds=60.0,
        fps=8.0,
        size=Size(64, 96),
        source_size=Size(64, 96),
    )
    return assemble(
        Written("", (-0.1,), 100, 5, truncated=False),
        watches=[
            Watched(rule=name, question=QUESTION, answer=verdict, first=verdict, confidence=0.9)
            for name, verdict in zip(names, verdicts, strict=True)
        ],
        device="pi",
        plan=plan,
        stats=ClipStats(60.0, 480, 480, 0, 0, 240, 0.0, (), 1.0),
        prompt=Prompt("watch", "watch", "", 320),
        author=Author("toy", "0" * 64, "int8", ""),
        work=Work(240, 1.0, 1.0, 1.0, None, None),
    )


def alerts(changes: Sequence[Change]) -> list[Alert]:
    return [change.alert for change in changes if change.alert is not None]


def told(watches: Watches, verdicts: Sequence[Verdict]) -> str:
    """Take one answer a clip; return for each clip what was told: raised, cleared or nothing."""
    letters = {"raised": "R", "cleared": "C"}
    said = ""
    for seq, verdict in enumerate(verdicts):
        found = alerts(watches.take(answer(seq, verdict)))
        said += letters[found[0].state] if found else "."
    return said


def sequence(letters: str) -> list[Verdict]:
    return [{"y": YES, "n": NO, "u": UNSURE}[letter] for letter in letters]


@pytest.mark.parametrize(
    ("keys", "answers", "expected"),
    [
        ({"yes": 1, "no": 1, "of": 1}, "ynuyn", "RC.RC"),
        ({}, "ynyyyy", "..R..."),  # two of three, and it stays raised
        ({}, "yunyuy", ".....R"),  # two of three, not two in all
        ({}, "uuuu", "...."),
        ({}, "yyunynn", ".R...C."),  # "unsure" clears nothing
        ({}, "yynnyy", ".R.C.R"),
        ({"yes": 3, "of": 3, "no": 1}, "yynyyyyn", ".....R.C"),
    ],
)
def test_so_many_answers_of_so_many_raise_and_clear(
    keys: dict[str, object], answers: str, expected: str
) -> None:
    assert told(Watches("pi", [rule(**keys)], ["door"]), sequence(answers)) == expected


def test_after_a_change_only_new_answers_count() -> None:
    # Were the yes before the alert still counted, one no would be undone by it.
    watches = Watches("pi", [rule(yes=1, no=1, of=3)], ["door"])
    assert told(watches, sequence("ynnun")) == "RC..."


def test_an_alert_holds_the_next_one_off() -> None:
    watches = Watches("pi", [rule(yes=1, no=1, of=1, hold_off_s=300)], ["door"])
    # Raised at the end of minute 1; the next may come from minute 6 on, and comes with the first yes then.
    assert told(watches, sequence("ynynyyyn")) == "RC...R.C"


def test_a_clock_that_was_set_back_holds_nothing_off() -> None:
    watches = Watches("pi", [rule(yes=1, no=1, of=1, hold_off_s=300)], ["door"])
    told(watches, sequence("yn"))
    (change,) = watches.take(answer(2, YES, at=START - timedelta(hours=1)))
    assert change.alert is not None


def test_an_alert_says_what_it_rests_on() -> None:
    watches = Watches("pi", [rule()], ["door"])
    told(watches, sequence("u"))
    watches.take(answer(1, YES))
    last = answer(2, YES)
    (change,) = watches.take(last)
    assert change.alert is not None
    raised = change.alert
    assert (raised.rule, raised.question, raised.camera, raised.device) == ("parcel", QUESTION, "door", "pi")
    assert (raised.answers, raised.reason, raised.answer_id) == ((UNSURE, YES, YES), "answers", last.id)
    assert raised.time == raised.since == last.t_end
    assert change.state is not None
    assert (change.state.state, change.state.since, change.state.answer) == ("raised", last.t_end, YES)
    watches.take(answer(3, NO))
    (cleared,) = alerts(watches.take(answer(4, NO)))
    assert (cleared.state, cleared.since) == ("cleared", raised.since)
    assert cleared.id != raised.id


def test_cameras_and_rules_stand_for_themselves() -> None:
    gate = WatchSettings(id="gate", question=QUESTION, cameras=("yard",), yes=1, no=1, of=1)
    watches = Watches("pi", [rule(yes=1, no=1, of=1), gate], ["door", "yard"])
    assert [(c.camera, c.rule) for c in watches.begin()] == [
        ("door", "parcel"),
        ("yard", "parcel"),
        ("yard", "gate"),
    ]
    assert [(a.camera, a.rule) for a in alerts(watches.take(answer(0, YES, YES)))] == [("door", "parcel")]
    found = alerts(watches.take(answer(0, NO, YES, camera="yard")))
    assert [(a.camera, a.rule) for a in found] == [("yard", "gate")]


@settings(deadline=None, max_examples=150)
@given(
    st.lists(st.sampled_from((YES, NO, UNSURE)), max_size=30),
    st.sets(st.integers(0, 29)),
    st.integers(1, 3),
    st.integers(1, 3),
    st.integers(0, 3),
)
def test_a_restart_changes_nothing(
    verdicts: list[Verdict], restarts: set[int], yes: int, no: int, hold_off: int
) -> None:
    rules = [rule(yes=yes, no=no, of=3, hold_off_s=60 * hold_off)]
    through, anew = Watches("pi", rules, ["door"]), Watches("pi", rules, ["door"])
    for seq, verdict in enumerate(verdicts):
        if seq in restarts:
            anew = Watches("pi", rules, ["door"], kept=anew.dump())
            assert not alerts(anew.begin())
        else:
            anew.begin()
        through.begin()
        assert through.take(answer(seq, verdict)) == anew.take(answer(seq, verdict))
    assert through.dump() == anew.dump()


@pytest.mark.parametrize(
    "kept", ["", "{", "[]", "null", '{"door/parcel": 3}', '{"door/parcel": {"raised": true}}']
)
def test_what_cannot_be_read_counts_as_nothing(kept: str) -> None:
    watches = Watches("pi", [rule()], ["door"], kept=kept)
    (change,) = watches.begin()
    assert change.state is not None
    assert (change.state.state, change.state.since, change.alert) == ("clear", None, None)


def raised() -> Watches:
    watches = Watches("pi", [rule(yes=1)], ["door"])
    watches.begin()
    assert alerts(watches.take(answer(0, YES)))
    return watches


def test_a_raised_watch_that_is_taken_away_is_cleared() -> None:
    (change,) = raised().reconfigure([])
    assert change.state is None
    assert change.alert is not None
    assert (change.alert.state, change.alert.reason) == ("cleared", "changed")
    assert not Watches("pi", [], ["door"], kept=raised().dump()).take(answer(1, YES))


def test_another_question_under_the_same_name_begins_anew() -> None:
    watches = Watches("pi", [rule(yes=1, question="Is it raining?")], ["door"], kept=raised().dump())
    gone, state = watches.begin()
    assert gone.alert is not None
    assert gone.alert.question == QUESTION
    assert state.state is not None
    assert (state.state.state, state.state.question) == ("clear", "Is it raining?")


def test_an_answer_to_a_rule_that_is_gone_is_nobodys() -> None:
    watches = Watches("pi", [rule(question="Is it raining?")], ["door"])
    watches.begin()
    assert watches.take(answer(0, YES)) == []


def configured(text: dict[str, object]) -> Settings:
    return Settings.model_validate(
        {"bundle": {"path": "b"}, "camera": [{"id": name, "source": "v.mp4"} for name in ("door", "yard")]}
        | text
    )


def test_every_camera_is_asked_its_own_questions_last_or_where_the_operator_wants() -> None:
    watch = [
        {"id": "parcel", "question": QUESTION, "cameras": ["door"]},
        {"id": "rain", "question": "Is it raining?", "check": False},
    ]
    prompts = prompts_from(configured({"watch": watch}))
    assert [prompt.name for prompt in prompts] == ["summary", "spatial", "watch"]
    rules = {
        camera: [each.rule for each in for_camera(prompts, camera)[-1].questions]
        for camera in ("door", "yard")
    }
    assert rules == {"door": ["parcel", "rain"], "yard": ["rain"]}
    parcel, rain = prompts[-1].questions
    assert QUESTION in parcel.text
    assert QUESTION in parcel.check != parcel.text
    assert rain.check == ""
    own = {"name": "guard", "kind": "watch", "text": "The camera looks at the porch."}
    (first, _) = prompts_from(configured({"watch": watch, "prompt": [own, {"name": "s", "kind": "summary"}]}))
    assert first.name == "guard"
    assert first.questions[0].text.startswith("The camera looks at the porch.\nIs a parcel")
    assert for_camera(prompts_from(configured({"watch": watch[:1]})), "yard")[-1].name == "spatial"
