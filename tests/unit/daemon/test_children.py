"""Pipes to child processes: nothing that a child does or leaves undone holds the supervisor up."""

from __future__ import annotations

import os
import queue
import signal
import threading
import time
from multiprocessing.connection import Connection
from typing import Any

import psutil
import pytest

from edge.daemon.children import Child, Lost
from edge.daemon.slots import Slot

MIB = bytes(1 << 20)
WAIT_S = 60.0  # a limit for a broken program


def speak(conn: Connection, count: int) -> None:
    """Say so many numbers, each with a MiB beside it, and die."""
    for number in range(count):
        conn.send((number, MIB))
    os._exit(3)


def be_deaf(conn: Connection, _job: object) -> None:
    conn.send("here")
    time.sleep(WAIT_S)


def listen(conn: Connection, _job: object) -> None:
    while (message := conn.recv()) != "end":
        conn.send(message)


def heard(inbox: queue.SimpleQueue[Any]) -> tuple[Child, Any]:
    child, message = inbox.get(timeout=WAIT_S)
    return child, message


def test_everything_that_a_child_said_is_heard_before_its_end() -> None:
    inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
    child = Child("speaker", speak, 3, inbox)
    for number in range(3):
        who, (said, _) = heard(inbox)
        assert (who, said) == (child, number)
        child.handled()
    assert heard(inbox) == (child, Lost())
    assert child.close(patience_s=WAIT_S) == "exit code 3"


def test_a_child_whose_words_are_not_dealt_with_has_to_wait() -> None:
    inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
    child = Child("speaker", speak, 50, inbox)
    try:
        said = [heard(inbox)[1][0] for _ in range(4)]
        with pytest.raises(queue.Empty):
            inbox.get(timeout=0.5)
        for _ in range(46):
            child.handled()
            said.append(heard(inbox)[1][0])
        assert said == list(range(50))
    finally:
        child.close()


def test_a_child_that_does_not_listen_holds_nobody_up() -> None:
    inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
    child = Child("deaf", be_deaf, None, inbox)
    assert heard(inbox)[1] == "here"
    for _ in range(20):
        child.send(MIB)  # more than any pipe takes
    process = psutil.Process(child.pid)
    assert child.close() == "killed by SIGKILL"
    assert not process.is_running()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("deaf")]


def test_a_child_that_is_frozen_can_be_killed() -> None:
    inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
    child = Child("deaf", be_deaf, None, inbox)
    assert heard(inbox)[1] == "here"
    os.kill(child.pid, signal.SIGSTOP)
    child.kill()
    assert heard(inbox) == (child, Lost())
    child.close()


def test_a_child_is_deaf_to_the_signals_of_its_group_from_birth() -> None:
    inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
    child = Child("echo", listen, None, inbox)
    for number in (signal.SIGINT, signal.SIGTERM):
        os.kill(child.pid, number)  # it is still starting, and knows nothing of us
    child.send("hello")
    assert heard(inbox) == (child, "hello")
    assert child.close() == "killed by SIGKILL"


def test_messages_go_both_ways_in_order() -> None:
    inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
    child = Child("echo", listen, None, inbox)
    for number in range(10):
        child.send(number)
    for number in range(10):
        assert heard(inbox)[1] == number
        child.handled()
    child.send("end")
    assert heard(inbox) == (child, Lost())
    assert child.close(patience_s=WAIT_S) == "exit code 0"


def test_a_place_is_filled_at_once_after_a_child_that_worked_and_later_and_later_otherwise() -> None:
    inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
    slot = Slot()
    assert slot.due()
    slot.started(Child("deaf", be_deaf, None, inbox))
    assert not slot.due()
    assert not slot.kill_if_silent(WAIT_S)
    slot.fruitful = True
    slot.heard_s -= 2 * WAIT_S
    assert slot.kill_if_silent(WAIT_S)
    assert slot.lost() == "killed by SIGKILL"
    assert slot.due()
    slot.lost()  # a start that failed
    slot.lost()
    assert not slot.due()
    assert (slot.fruitless, slot.restarts) == (2, 0)
