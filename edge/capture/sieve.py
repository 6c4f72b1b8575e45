"""From chosen pictures to the pairs that travel: glanced at for the gate, and converted only where they are kept."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge.capture.clip import Chosen
from edge.capture.gate import HELD, Gate, Kept
from edge.capture.keyframe import KeyFrames
from edge.capture.picture import Converter, Decoded
from edge.records import Pair, Size, Still


class Sieve:
    """Makes the pairs of one source's clips.

    Args:
        converter: Makes RGB of pictures.
        fps: Ticks per second.
        ticks: Ticks of a full clip.
        gate: Threshold of the gate; None lets every pair through.
        stills: Whether a key frame is kept of each clip.
    """

    def __init__(
        self, converter: Converter, *, fps: float, ticks: int, gate: float | None, stills: bool = False
    ) -> None:
        self.threshold = gate
        self._key_frames = KeyFrames(fps) if stills else None
        self._still: Still | None = None
        self._converter = converter
        self._fps = fps
        self._last = (ticks - 1) // 2
        self._gate: Gate[Chosen[Decoded]] | None = None
        self._size = Size(0, 0)
        self._in_force: float | None = None  # throughout a clip
        self._undecided: list[int] = []
        self._dropped: list[int] = []
        self._gated = 0
        self._begun = False

    def pairs(self, chosen: Chosen[Decoded], size: Size) -> list[Pair]:
        """Take the next pair of the clip in hand, and return the pairs that are kept from now on, in order."""
        if not self._begun:
            self._begun, self._in_force, self._gated = True, self.threshold, 0
            if self._gate is not None and self._in_force is not None:
                self._gate.threshold = self._in_force
        if self._in_force is None:
            pair = self._converter.pair(chosen, size)
            self._look(chosen, pair.frames[0])
            return [pair]
        if self._gate is None or self._size != size:
            self._gate, self._size = Gate(size, fps=self._fps, threshold=self._in_force), size
        self._undecided.append(chosen.index)
        glance = self._converter.glance(chosen, size)
        self._look(chosen, glance[0])
        return self._made(self._gate.see(glance, chosen, last=chosen.index == self._last), spare=HELD)

    def end(self) -> tuple[list[Pair], int, float | None]:
        """End the clip in hand: return what is still kept of it, how many pairs were dropped, and the threshold."""
        if not self._begun:
            return [], 0, self.threshold
        self._begun = False
        if self._gate is None or self._in_force is None:
            return [], 0, None
        pairs = self._made(self._gate.end(), spare=0)
        return pairs, self._gated, self._in_force

    def still(self) -> Still | None:
        """Return the key frame of the clip in hand, and begin to look for the next clip's."""
        found, self._still = self._still, None
        if self._key_frames is not None:
            self._key_frames.begin()
        return found

    def dropped(self, *, before: int | None = None) -> tuple[int, ...]:
        """Return the indices of the pairs that were dropped, each once; only those before a pair if one is named."""
        found = tuple(index for index in self._dropped if before is None or index < before)
        del self._dropped[: len(found)]
        return found

    def _look(self, chosen: Chosen[Decoded], frame: NDArray[np.uint8]) -> None:
        """Keep the first picture of a pair at full size if it is the best one so far."""
        if self._key_frames is not None and self._key_frames.see(frame):
            self._still = Still(2 * chosen.index / self._fps, self._converter.full(chosen.first))

    def _made(self, kept: list[Kept[Chosen[Decoded]]], *, spare: int) -> list[Pair]:
        """Convert what is kept; all before it, and but ``spare`` of what follows, is dropped."""
        out = []
        for each in kept:
            index = each.item.index
            self._drop([other for other in self._undecided if other < index])
            self._undecided = [other for other in self._undecided if other > index]
            out.append(self._converter.pair(each.item, self._size, score=each.score, gated=each.gated))
        sure = max(0, len(self._undecided) - spare)
        self._drop(self._undecided[:sure])
        del self._undecided[:sure]
        return out

    def _drop(self, indices: list[int]) -> None:
        self._dropped += indices
        self._gated += len(indices)
