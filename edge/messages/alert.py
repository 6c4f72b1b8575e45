"""What is said of a watch: that it was raised or cleared, and how it stands."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from edge.messages.answer import Confidence
from edge.messages.wire import Message, Utc, Verdict


class Alert(Message):
    """A watch was raised or cleared. Schema ``edgeclip.alert/1``.

    Attributes:
        rule: The operator's name for it; also the last part of the topic.
        question: The operator's words.
        state: What it is from now on.
        reason: ``answers``: so many of the last ones say so. ``changed``: the operator changed or removed the rule while
            it was raised.
        time: End of the clip that decided it.
        since: When it was raised.
        answers: The answers that decided it, oldest first.
        confidence: Of the last of these; None where no answer decided.
        seen: What the model wrote that it saw before the last of these; "" where no answer decided.
        answer_id: ``id`` of the answer that holds it, or "".
    """

    schema_: Literal["edgeclip.alert/1"] = Field("edgeclip.alert/1", alias="schema")
    id: str
    device: str
    camera: str
    rule: str
    question: str
    state: Literal["raised", "cleared"]
    reason: Literal["answers", "changed"]
    time: Utc
    since: Utc
    clip_id: str
    seq: int | None
    answer_id: str
    answers: tuple[Verdict, ...]
    seen: str = ""
    confidence: Confidence | None


class WatchState(Message):
    """How one watch stands, retained. Schema ``edgeclip.watch/1``.

    Attributes:
        state: ``raised`` or ``clear``.
        since: Since when; None if it has never been raised.
        time: End of the last clip that was asked; None before the first.
        answer: The last answer.
    """

    schema_: Literal["edgeclip.watch/1"] = Field("edgeclip.watch/1", alias="schema")
    id: str
    device: str
    camera: str
    rule: str
    question: str
    state: Literal["raised", "clear"]
    since: Utc | None
    time: Utc | None
    answer: Verdict | None
    clip_id: str
