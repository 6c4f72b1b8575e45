"""One thing that the broker will not have holds up its own line and no other."""

from __future__ import annotations

from edge.deliver.held import (
    CHANCE,
    DROPPED_PAUSE_MAX_S,
    DROPPED_PAUSE_S,
    REFUSED_PAUSE_S,
    Held,
    Item,
)

FIRST = Item("door", "door-1")
OTHER = Item("yard", "yard-1")


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_a_refusal_holds_its_line_for_a_while_or_until_the_next_connection() -> None:
    clock = Clock()
    held = Held(clock)
    held.refused(FIRST)
    assert (held.lines, held.careful) == (frozenset({"door"}), False)
    clock.now_s = REFUSED_PAUSE_S
    assert held.lines == frozenset()
    held.refused(FIRST)
    held.connected()
    assert held.lines == frozenset()


def test_a_connection_lost_once_is_chance_and_makes_careful_until_the_message_is_taken() -> None:
    held = Held(Clock())
    assert not held.dropped(FIRST)
    assert (held.lines, held.careful) == (frozenset(), True)
    held.taken(OTHER)
    assert held.careful
    held.taken(FIRST)
    assert not held.careful


def test_a_message_that_costs_one_connection_after_the_other_holds_its_line_longer_each_time() -> None:
    clock = Clock()
    held = Held(clock)
    assert [held.dropped(FIRST) for _ in range(CHANCE)] == [False] * (CHANCE - 1) + [True]
    held.connected()
    assert (held.lines, held.careful) == (frozenset({"door"}), False)
    pauses = []
    for _ in range(12):
        begun_s = clock.now_s
        while held.lines:
            clock.now_s += 1.0
        pauses.append(clock.now_s - begun_s)
        assert held.careful  # it is tried again, alone
        assert held.dropped(FIRST)
    assert pauses[:3] == [DROPPED_PAUSE_S, 2 * DROPPED_PAUSE_S, 4 * DROPPED_PAUSE_S]
    assert pauses[-1] == DROPPED_PAUSE_MAX_S
    clock.now_s += DROPPED_PAUSE_MAX_S
    held.taken(FIRST)
    assert not held.dropped(FIRST)  # counted anew


def test_losses_over_different_messages_of_one_line_are_chance() -> None:
    held = Held(Clock())
    assert not any(held.dropped(Item("door", f"door-{n}")) for n in range(9))
    assert held.lines == frozenset()


def test_what_is_given_up_holds_nothing() -> None:
    held = Held(Clock())
    for _ in range(CHANCE):
        held.dropped(FIRST)
    held.given_up(FIRST)
    assert (held.lines, held.careful) == (frozenset(), False)
