"""The shipped unit is valid, starts what is installed, and leaves the service little to harm."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from edge.errors import EXIT_CONFIG
from tests.needs import program

SYSTEMD = Path(__file__).parents[2] / "systemd"
UNIT = SYSTEMD / "edgeclip.service"


def systemd_analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    binary = program("systemd-analyze", "systemd")
    return subprocess.run([binary, "--no-pager", *arguments], capture_output=True, text=True, check=False)


def value(key: str) -> str:
    (found,) = re.findall(rf"^{key}=(.*)$", UNIT.read_text(encoding="utf-8"), re.MULTILINE)
    return str(found)


def test_the_unit_is_valid(tmp_path: Path) -> None:
    text = UNIT.read_text(encoding="utf-8")
    true = shutil.which("true")
    assert "/opt/edgeclip/bin/edge" in text
    installed = tmp_path / "edgeclip.service"
    installed.write_text(text.replace("/opt/edgeclip/bin/edge", str(true)), encoding="utf-8")
    done = systemd_analyze("verify", "--man=no", str(installed))
    complaints = [line for line in done.stderr.splitlines() if "edgeclip" in line]
    assert (done.returncode, complaints) == (0, [])


def test_exposure_is_below_two() -> None:
    done = systemd_analyze("security", "--offline=true", "--threshold=19", str(UNIT))
    if "offline" in done.stderr:  # systemd before 250 can only judge installed units
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stdout.splitlines()[-1]


def test_a_wrong_configuration_is_not_tried_again() -> None:
    assert value("RestartPreventExitStatus") == str(EXIT_CONFIG)
    assert (value("Type"), value("Restart")) == ("notify", "on-failure")


def test_nothing_is_used_that_older_systemds_ignore() -> None:
    """Options of systemd 250 and later: 249 (JetPack 6) would ignore them with a warning in the log."""
    text = UNIT.read_text(encoding="utf-8")
    for newer in ("notify-reload", "RestartSteps", "RestartMaxDelaySec", "RestartMode", "ImportCredential"):
        assert newer not in text


def syscalls(name: str, sets: dict[str, list[str]]) -> set[str]:
    """Expand a filter set of systemd's, which may name other sets."""
    return {
        call for entry in sets[name] for call in (syscalls(entry, sets) if entry.startswith("@") else {entry})
    }


def permitted() -> set[str]:
    """Return the system calls that the unit permits, in the order of its filters."""
    sets: dict[str, list[str]] = {}
    for line in systemd_analyze("syscall-filter").stdout.splitlines():
        word = line.strip()
        if line.startswith("@"):
            sets[word] = []
        elif line.startswith(" ") and not word.startswith("#"):
            sets[list(sets)[-1]].append(word)
    allowed = syscalls("@default", sets)
    for entry in re.findall(r"^SystemCallFilter=(.*)$", UNIT.read_text(encoding="utf-8"), re.MULTILINE):
        for word in entry.removeprefix("~").split():
            calls = syscalls(word, sets) if word.startswith("@") else {word}
            allowed = allowed - calls if entry.startswith("~") else allowed | calls
    return allowed


def test_the_service_calls_nothing_that_the_unit_forbids(tmp_path: Path) -> None:
    """The demo is the whole service: capture, model, outbox, MQTT, supervision."""
    strace = program("strace", "strace")
    trace = tmp_path / "trace"
    done = subprocess.run(
        [strace, "-f", "-qq", "-o", str(trace), sys.executable, "-m", "edge", "demo"],
        capture_output=True,
        text=True,
        check=False,
    )
    if "ptrace" in done.stderr:
        pytest.skip(f"strace is not permitted here: {done.stderr.strip().splitlines()[0]}")
    assert done.returncode == 0, done.stderr
    text = trace.read_text(encoding="utf-8", errors="replace")
    called = set(re.findall(r"^\d+ +([a-z_0-9]+)\(", text, re.MULTILINE))
    # SQLite gives a log the owner of its database when it runs as root, and only then.
    assert called - permitted() - {"fchown"} == set()
    assert not re.search(r"^\d+ +(mmap|mprotect)\(.*PROT_WRITE\|PROT_EXEC", text, re.MULTILINE)
    families = set(re.findall(r"^\d+ +socket(?:pair)?\((AF_[A-Z0-9_]+)", text, re.MULTILINE))
    assert families <= set(value("RestrictAddressFamilies").split())


def test_the_user_can_be_made_and_the_directories_belong_to_the_right_ones(tmp_path: Path) -> None:
    sysusers = program("systemd-sysusers", "systemd")
    tmpfiles = program("systemd-tmpfiles", "systemd")
    (tmp_path / "etc").mkdir()
    subprocess.run([sysusers, f"--root={tmp_path}", str(SYSTEMD / "edgeclip.sysusers")], check=True)
    entries = (tmp_path / "etc" / "passwd").read_text(encoding="utf-8").splitlines()
    (user,) = [line.split(":") for line in entries if line.startswith("edgeclip:")]
    assert user[6].endswith("nologin")
    assert re.search(r"^video:.*\bedgeclip\b", (tmp_path / "etc" / "group").read_text(), re.MULTILINE)
    made = subprocess.run(
        [tmpfiles, "--create", f"--root={tmp_path}", str(SYSTEMD / "edgeclip.tmpfiles")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode == 0, made.stderr
    etc = (tmp_path / "etc" / "edgeclip").stat()
    assert (etc.st_mode & 0o777, etc.st_gid) == (0o750, int(user[3]))
