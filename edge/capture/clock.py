"""From the times that a source claims to times that the grid can use.

Sources claim much: a start that is not 0, no time at all, a jump back after a restart, a V4L2 device on a Pi whose
times are all 0. Both clocks are pure; all times are integer nanoseconds.
"""

from __future__ import annotations

from edge.capture.clip import NS

# A file whose time steps back by more than this has been joined from parts; less is a picture out of order.
BACKWARD_LIMIT_NS = 1 * NS
# A longer still picture than this is taken for a broken time: a clip is at most as long.
FORWARD_LIMIT_NS = 600 * NS

# A live picture later than this, against the quickest one, does not say when it was taken: its time is of another
# epoch, or the network stood still. It is also how long the grid waits for late pictures.
LATE_LIMIT_NS = 1 * NS
# How fast the clock of a camera may drift against ours; crystals stay within 100 ppm.
DRIFT_PPM = 500


class MediaClock:
    """Maps a file's presentation times to time since its first picture.

    Missing times go on from the picture before by its duration, and so do times that jump back or far ahead, from
    which the rest of the file is counted. A small step back is passed on: the sampler skips such a picture.

    Args:
        nominal_ns: Duration of a picture that does not say its own, > 0.
    """

    def __init__(self, nominal_ns: int) -> None:
        self._nominal_ns = nominal_ns
        self._origin_ns: int | None = None  # presentation time of time 0
        self._last_ns = 0
        self._next_ns = 0  # where the newest picture ends

    @property
    def end_ns(self) -> int:
        """End of what has been seen: the latest picture's time and its own duration."""
        return self._next_ns

    def time_ns(self, pts_ns: int | None, duration_ns: int) -> int:
        """Return the time of the next picture in the order of presentation.

        Args:
            pts_ns: Its presentation time, or None.
            duration_ns: Its duration, 0 where the file does not say.
        """
        if pts_ns is None:
            at_ns = self._next_ns
        else:
            if self._origin_ns is None:
                self._origin_ns = pts_ns - self._next_ns
            at_ns = pts_ns - self._origin_ns
            if not -BACKWARD_LIMIT_NS <= at_ns - self._last_ns <= FORWARD_LIMIT_NS:
                self._origin_ns = pts_ns - self._next_ns
                at_ns = self._next_ns
        if at_ns >= self._last_ns:
            self._last_ns = at_ns
            self._next_ns = at_ns + (duration_ns if 0 < duration_ns <= FORWARD_LIMIT_NS else self._nominal_ns)
        return at_ns

    def pts_ns(self, at_ns: int) -> int | None:
        """Return the presentation time that stands for a time, None where the file has none."""
        return None if self._origin_ns is None else at_ns + self._origin_ns

    def sought(self, pts_ns: int) -> None:
        """Go on after a seek that landed on a picture with this presentation time."""
        if self._origin_ns is not None:
            self._last_ns = self._next_ns = pts_ns - self._origin_ns


class ArrivalClock:
    """Maps a live source's presentation times to the monotonic clock.

    The smallest delay between presentation and arrival seen so far is taken for the true one (jitter only ever adds
    to it), and is let grow slowly so that a drifting camera clock is followed. Mapped times never lie after the
    arrival, at most `LATE_LIMIT_NS` before it, and never step back while arrivals do not. Where times are missing, stand
    still (0 from some V4L2 drivers) or jump, the arrival itself counts.
    """

    def __init__(self) -> None:
        self._delay_ns: int | None = None
        self._pts_ns = 0
        self._arrival_ns = 0

    def time_ns(self, pts_ns: int | None, arrival_ns: int) -> int:
        """Return when a picture was taken, on the clock of ``arrival_ns``."""
        delay_ns = None if pts_ns is None else arrival_ns - pts_ns
        if pts_ns is None or delay_ns is None:
            self._delay_ns = None
            return arrival_ns
        if self._delay_ns is not None:
            grown_ns = self._delay_ns + (arrival_ns - self._arrival_ns) * DRIFT_PPM // 1_000_000
            if pts_ns > self._pts_ns and delay_ns - grown_ns <= LATE_LIMIT_NS:
                delay_ns = min(delay_ns, grown_ns)
        self._delay_ns, self._pts_ns, self._arrival_ns = delay_ns, pts_ns, arrival_ns
        return pts_ns + delay_ns
