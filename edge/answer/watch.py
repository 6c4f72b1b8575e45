"""Watches: answers to one question over many clips become an alert, and the end of one. Pure; clips bring the time.

    answers    yes, no or unsure, one a clip; `yes` of the last `of` raise, `no` of the last `of` clear
    change     forgets the answers before it, so an alert needs news to end, and its end needs news to be undone
    hold-off   for so long after an alert the same watch raises none, by the clips' own time

What stands is kept as text (`Watches.dump`), which goes to the disk in the same transaction as the messages that it
led to: a restart neither repeats an alert nor forgets one. Rules, questions and topics are the operator's alone; of the
model one word of three counts, and what it says that it saw goes along in the payload, as data.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Literal, get_args

from edge.config import WatchSettings
from edge.messages import NAMESPACE, Alert, Answer, Confidence, Verdict, Watched, WatchState, message_id


@dataclass(frozen=True, slots=True)
class Standing:
    """How one watch of one camera stands.

    Attributes:
        question: What was asked; another question begins anew.
        raised: Whether it is.
        since: Since when it is raised or clear; None if it has never been raised.
        alerted: End of the clip that raised it last.
        answers: Those since the last change, oldest first.
        time: End of the last clip that was asked.
        answer: The last answer.
        clip_id: The last clip.
    """

    question: str
    raised: bool = False
    since: datetime | None = None
    alerted: datetime | None = None
    answers: tuple[Verdict, ...] = ()
    time: datetime | None = None
    answer: Verdict | None = None
    clip_id: str = ""


@dataclass(frozen=True, slots=True)
class Change:
    """What is to be told of one watch.

    Attributes:
        state: How it stands now; None where the watch is gone.
        alert: What subscribers are to be alerted of, if anything.
    """

    camera: str
    rule: str
    state: WatchState | None
    alert: Alert | None


class Watches:
    """All watches of one device.

    Args:
        device: Name of this device.
        rules: The operator's.
        cameras: All cameras.
        kept: What `dump` returned in an earlier run; what is not readable counts as nothing.
    """

    def __init__(
        self, device: str, rules: Sequence[WatchSettings], cameras: Sequence[str], kept: str = ""
    ) -> None:
        self._device = device
        self._cameras = tuple(cameras)
        self._rules: dict[str, WatchSettings] = {}
        self._standing = _read(kept)
        self._set(rules)

    def begin(self) -> list[Change]:
        """Return how everything stands at the start, and what became of watches that are gone since the last run."""
        return [*self._settle(), *self._states()]

    def reconfigure(self, rules: Sequence[WatchSettings]) -> list[Change]:
        """Take other rules; a raised watch that is gone, or asks something else now, is cleared."""
        self._set(rules)
        return [*self._settle(), *self._states()]

    def take(self, answer: Answer) -> list[Change]:
        """Take the answers of one clip."""
        changes = []
        for watched in answer.watches:
            rule = self._rules.get(watched.rule)
            key = (answer.camera, watched.rule)
            known = rule is not None and (not rule.cameras or answer.camera in rule.cameras)
            if rule is None or not known or rule.question.strip() != watched.question:
                continue  # it was reloaded since the clip was begun
            before = self._standing.get(key, Standing(watched.question))
            window = (*before.answers, watched.answer)[-rule.of :]
            now = replace(
                before, answers=window, time=answer.t_end, answer=watched.answer, clip_id=answer.clip_id
            )
            turned = _turned(rule, now)
            if turned:
                raised = not before.raised
                alerted = answer.t_end if raised else before.alerted
                now = replace(now, raised=raised, since=answer.t_end, alerted=alerted, answers=())
            self._standing[key] = now
            alert = self._alert(before, now, answer, watched, window) if turned else None
            changes.append(Change(*key, self._state(key), alert))
        return changes

    def dump(self) -> str:
        """Return what stands, for the next run."""
        kept = {
            f"{camera}/{rule}": {
                name: value.isoformat() if isinstance(value := getattr(each, name), datetime) else value
                for name in Standing.__dataclass_fields__
            }
            for (camera, rule), each in self._standing.items()
        }
        return json.dumps(kept, separators=(",", ":"), ensure_ascii=False)

    def _set(self, rules: Sequence[WatchSettings]) -> None:
        self._rules = {rule.id: rule for rule in rules}

    def _wanted(self) -> Iterable[tuple[tuple[str, str], str]]:
        """Yield every watch that there should be, with its question."""
        for rule in self._rules.values():
            for camera in rule.cameras or self._cameras:
                yield (camera, rule.id), rule.question.strip()

    def _settle(self) -> list[Change]:
        """Make what stands fit the rules."""
        wanted = dict(self._wanted())
        changes = []
        for key in [key for key, each in self._standing.items() if wanted.get(key) != each.question]:
            old = self._standing.pop(key)
            alert = self._taken_back(key, old) if old.raised else None
            if alert is not None or key not in wanted:
                changes.append(Change(*key, None, alert))
        for key, question in wanted.items():
            self._standing.setdefault(key, Standing(question))
        return changes

    def _states(self) -> list[Change]:
        return [Change(*key, self._state(key), None) for key in self._standing]

    def _state(self, key: tuple[str, str]) -> WatchState:
        camera, rule = key
        each = self._standing[key]
        return WatchState(
            id=message_id(each.clip_id, f"watch/{rule}")
            if each.clip_id
            else str(uuid.uuid5(NAMESPACE, f"{self._device}/{camera}/{rule}")),
            device=self._device,
            camera=camera,
            rule=rule,
            question=each.question,
            state="raised" if each.raised else "clear",
            since=each.since,
            time=each.time,
            answer=each.answer,
            clip_id=each.clip_id,
        )

    def _alert(
        self,
        before: Standing,
        now: Standing,
        answer: Answer,
        watched: Watched,
        window: tuple[Verdict, ...],
    ) -> Alert:
        state: Literal["raised", "cleared"] = "raised" if now.raised else "cleared"
        return Alert(
            id=message_id(answer.clip_id, f"alert/{watched.rule}/{state}"),
            device=self._device,
            camera=answer.camera,
            rule=watched.rule,
            question=now.question,
            state=state,
            reason="answers",
            time=answer.t_end,
            since=(before.since if before.raised else now.since) or answer.t_end,
            clip_id=answer.clip_id,
            seq=answer.seq,
            answer_id=answer.id,
            answers=window,
            seen=watched.seen,
            confidence=Confidence(value=watched.confidence),
        )

    def _taken_back(self, key: tuple[str, str], old: Standing) -> Alert:
        camera, rule = key
        since = old.since or datetime.now(UTC)
        return Alert(
            id=message_id(old.clip_id, f"alert/{rule}/changed"),
            device=self._device,
            camera=camera,
            rule=rule,
            question=old.question,
            state="cleared",
            reason="changed",
            time=old.time or since,
            since=since,
            clip_id=old.clip_id,
            seq=None,
            answer_id="",
            answers=(),
            confidence=None,
        )


def _turned(rule: WatchSettings, now: Standing) -> bool:
    """Whether the answers change how the watch stands."""
    if now.raised:
        return now.answers.count("no") >= rule.no
    if now.answers.count("yes") < rule.yes:
        return False
    if now.alerted is None or now.time is None:
        return True
    passed_s = (now.time - now.alerted).total_seconds()
    return (
        not 0 <= passed_s < rule.hold_off_s
    )  # a clock that was set back must not hold an alert off for hours


def _read(kept: str) -> dict[tuple[str, str], Standing]:
    try:
        found = json.loads(kept) if kept else {}
        return {_key(name): _standing(fields) for name, fields in found.items()}
    except (ValueError, TypeError, KeyError, AttributeError):
        return {}


def _key(name: str) -> tuple[str, str]:
    camera, _, rule = name.partition("/")
    return camera, rule


def _standing(fields: dict[str, Any]) -> Standing:
    answers = tuple(each for each in fields["answers"] if each in get_args(Verdict))
    times = {
        name: None if fields[name] is None else datetime.fromisoformat(fields[name])
        for name in ("since", "alerted", "time")
    }
    clip_id = fields["clip_id"] and str(uuid.UUID(fields["clip_id"]))
    return Standing(
        question=str(fields["question"]),
        raised=bool(fields["raised"] and clip_id),
        answers=answers,
        answer=fields["answer"] if fields["answer"] in get_args(Verdict) else None,
        clip_id=clip_id,
        **times,
    )
