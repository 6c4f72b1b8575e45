"""Lives of the daemon, one after the other, each with a witness beside its outbox.

    python -m tests.faults.life CONFIG JOURNAL

For every line on standard input, the number of a life, the daemon is started in a process forked from this one, which
has imported everything already; its id is printed, and at its end what `os.waitstatus_to_exitcode` makes of it. The
daemon's own children import this module too, so it imports nothing by itself.
"""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from pathlib import Path
from typing import Any, NoReturn


def main() -> None:
    """Start lives until standard input ends."""
    from edge.config import load

    settings = load(Path(sys.argv[1]))
    _prepare()
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            sys.stdin.close()
            _live(settings, Path(sys.argv[2]), int(line))
        sys.stdout.write(f"{pid}\n")
        sys.stdout.flush()
        _, status = os.waitpid(pid, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


def _prepare() -> None:
    for name in ("edge.daemon.supervisor", "tests.faults.witness", "tests.stand_in"):
        importlib.import_module(name)


def _live(settings: Any, journal: Path, life: int) -> NoReturn:
    """Live until somebody sends a signal."""
    import signal

    from edge.daemon.children import log_to_stderr
    from edge.daemon.supervisor import Supervisor
    from edge.deliver.topics import Topics
    from tests import stand_in
    from tests.faults.witness import Journal, WitnessedOutbox

    log_to_stderr(f"life {life}")
    code = 1
    try:
        with WitnessedOutbox(
            settings.outbox_path(), Journal(journal, life), max_bytes=settings.outbox.max_mib << 20
        ) as outbox:
            topics = Topics(settings.mqtt.root, settings.device.id)
            supervisor = Supervisor(
                settings,
                topics,
                outbox,
                inference=stand_in.inference,
                reread=lambda: settings,
                sys=journal.with_name("sys"),  # no sensors: what this machine feels must not shed clips
            )
            signal.signal(
                signal.SIGTERM, lambda number, _frame: supervisor.inbox.put((None, signal.Signals(number)))
            )
            supervisor.run()
        code = 0
    except BaseException:  # noqa: BLE001 - a forked process must not return into its parent's program
        traceback.print_exc()
    finally:
        os._exit(code)


if __name__ == "__main__":
    main()
