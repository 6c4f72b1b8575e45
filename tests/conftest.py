"""What every test may rely on."""

from __future__ import annotations

import signal

# A shell that starts a program in the background makes it, and all that it starts, deaf to Ctrl-C; tests press it.
signal.signal(signal.SIGINT, signal.default_int_handler)
