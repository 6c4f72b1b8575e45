"""What a test needs from the machine: a missing program skips it, with its reason; under CI it fails instead."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import NoReturn

import pytest


def absent(what: str, package: str) -> NoReturn:
    """Skip the running test because ``what`` is not there; fail it where CI promised to have installed it."""
    reason = f"{what} is missing (package {package})"
    if os.environ.get("CI"):
        pytest.fail(f"{reason}, and CI must not skip")
    pytest.skip(reason)


def program(name: str, package: str) -> str:
    """Return the path of a program, or skip; /usr/sbin is looked at too, where Debian keeps servers."""
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")
    if found is None:
        absent(name, package)
    return found


def file(path: str | Path, package: str) -> Path:
    """Return the path of a file that a package brings, or skip."""
    if not Path(path).exists():
        absent(str(path), package)
    return Path(path)
