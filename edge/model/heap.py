"""Giving memory that was freed back to the kernel."""

from __future__ import annotations

import contextlib
import ctypes


def trim() -> None:
    """Return free heap pages (glibc's malloc_trim(3)); other C libraries do so by themselves or not at all.

    Reading a vocabulary of 248,000 tokens leaves more free pages behind than it keeps: 110 MiB.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
