"""What waits because the broker does not take it, so that nothing else has to wait behind it; pure, with the time given.

Some brokers answer a forbidden message with a refusal, others drop the connection. A broker works in order, so what it
dropped us for is the first thing that it had not confirmed. That may be chance, a network that broke or a broker that
went down. So from then on things are sent one at a time until that one is taken; and if the connection is dropped over
it again and again, its line waits: one camera's messages, the replies, one retained topic, or one subscription.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

REFUSED_PAUSE_S = 30.0  # after a refusal
DROPPED_PAUSE_S = 2.0  # after as many drops as are no chance; doubles with each further one
DROPPED_PAUSE_MAX_S = 300.0
CHANCE = 3  # connections dropped over one message


@dataclass(frozen=True, slots=True)
class Item:
    """Something that the broker is to confirm.

    Attributes:
        line: What waits with it: a camera, or a topic.
        key: Which one of the line it is.
    """

    line: str
    key: str


@dataclass(slots=True)
class _Suspect:
    key: str
    drops: int
    until_s: float = 0.0


class Held:
    """The lines that wait, over all connections.

    Args:
        clock: Seconds, such as `time.monotonic`.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._refused: dict[str, float] = {}  # by line: until when it waits
        self._suspects: dict[str, _Suspect] = {}  # by line

    @property
    def lines(self) -> frozenset[str]:
        """Those that wait now."""
        now_s = self._clock()
        self._refused = {line: until_s for line, until_s in self._refused.items() if until_s > now_s}
        dropped = (line for line, suspect in self._suspects.items() if suspect.until_s > now_s)
        return frozenset((*self._refused, *dropped))

    @property
    def careful(self) -> bool:
        """Whether to send one thing at a time, because the broker may drop the connection over one of them."""
        now_s = self._clock()
        return any(suspect.until_s <= now_s for suspect in self._suspects.values())

    def connected(self) -> None:
        """Take a new connection: what was refused may be permitted by now."""
        self._refused.clear()

    def taken(self, item: Item) -> None:
        """The broker has confirmed it."""
        self._suspects.pop(item.line, None)

    def refused(self, item: Item) -> None:
        """The broker does not want it; its line waits."""
        self._suspects.pop(item.line, None)
        self._refused[item.line] = self._clock() + REFUSED_PAUSE_S

    def dropped(self, item: Item) -> bool:
        """The connection was lost over it; return whether that is no chance any more, and its line waits."""
        suspect = self._suspects.setdefault(item.line, _Suspect(item.key, 0))
        if suspect.key != item.key:
            suspect = self._suspects[item.line] = _Suspect(item.key, 0)
        suspect.drops += 1
        if suspect.drops < CHANCE:
            return False
        pause_s = DROPPED_PAUSE_S * 2.0 ** min(suspect.drops - CHANCE, 20)
        suspect.until_s = self._clock() + min(pause_s, DROPPED_PAUSE_MAX_S)
        return True

    def given_up(self, item: Item) -> None:
        """It will not be sent again."""
        self._suspects.pop(item.line, None)
