"""The model as the dispatcher sees it: the clip and the question that it has, and what it waits for; pure."""

from __future__ import annotations

from typing import Literal

from edge.daemon.effects import Ask, End, More
from edge.daemon.questions import Questions
from edge.daemon.recording import Recording, Timeline

PAIRS_AT_ONCE = 8  # handed to the model in one message
ATTEMPTS = 2  # of the model on one clip


class Hand:
    """What the model has in hand.

    Attributes:
        clip: The one that it works on, or that waits for its next attempt.
        questions: Those that wait, and the one that it has.
    """

    def __init__(self) -> None:
        self.clip: Recording | None = None
        self.questions = Questions()
        self._model: Literal["absent", "idle", "asked", "busy"] = "absent"
        self._hungry = False  # the model waits for pairs
        self._told_end = False

    @property
    def idle(self) -> bool:
        """Whether the model waits for a clip."""
        return self._model == "idle"

    @property
    def busy(self) -> bool:
        """Whether it works on the clip."""
        return self._model == "busy"

    @property
    def answering(self) -> bool:
        """Whether it was told the clip's end, and answers are to come."""
        return self.clip is not None and self._told_end

    def ready(self) -> bool:
        """The model has nothing in hand, or has ended its work; return whether that was an attempt on the clip."""
        attempt = self._model != "asked" and self.clip is not None
        self._model = "idle"
        self._hungry = False
        return attempt

    def need_pairs(self) -> None:
        """The model has worked off what it was given."""
        self._hungry = True

    def failed(self) -> None:
        """The model could not do the clip; it will say when it is ready for another."""
        self._model = "absent"

    def lost(self) -> None:
        """The inference process is gone. If a question was with it, that may be why, and the clip is not charged."""
        if self.clip is not None and self.clip.attempts and self.questions.asked and self._model != "asked":
            self.clip.attempts -= 1
        self._model = "absent"
        self._hungry = False

    def question(self) -> Ask | None:
        """Return a question that waits, if the model may have it now."""
        if not self._may_ask() or (ask := self.questions.next()) is None:
            return None
        self._hungry = False
        if self._model == "idle":
            self._model = "asked"
        return ask

    def begin(self, clip: Recording, *, stride: int) -> None:
        """Give the model a clip from its first pair on; ``stride`` as of `Recording.rewind`."""
        self.clip = clip
        self._model = "busy"
        self._hungry = False
        self._told_end = False
        clip.rewind(stride=stride)

    def serve(self, timeline: Timeline) -> More | End | None:
        """Return what the model gets of its clip if it waits for that: pairs, or the end; None while nothing has come.

        Args:
            timeline: Of the clip's camera.
        """
        clip = self.clip
        if not self.busy or clip is None or not self._hungry or self._told_end:
            return None
        if pairs := clip.take(PAIRS_AT_ONCE, keep=clip.attempts < ATTEMPTS):
            self._hungry = False
            return More(pairs)
        if clip.stats is None:
            return None
        self._hungry = False
        self._told_end = True
        end_ns = timeline.start_mono_ns(clip.plan.seq) + round(clip.stats.seconds * 1e9)
        return End(clip.stats, end_ns if timeline.paced else None, clip.still)

    def _may_ask(self) -> bool:
        """Whether the model waits, and a question that kills it would cost no clip its last attempt."""
        if self.idle:
            return True
        spare = self.clip is not None and self.clip.attempts < ATTEMPTS
        return self.busy and self._hungry and not self._told_end and spare
