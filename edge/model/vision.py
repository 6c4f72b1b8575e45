"""The vision tower: patches of frame pairs in, embeddings of visual tokens out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge.model.bundle import Bundle
from edge.model.manifest import Vision
from edge.model.prepared import Prepared
from edge.model.preprocess import patchify
from edge.model.sessions import open_session, shrinking, translated
from edge.records import Size

PATCHES_AT_ONCE = 768  # of one run: 4 pairs of 256 x 192; more was no faster and took more memory
_TABLES_KEPT = 8  # sizes whose tables are kept: a clip, its stills and a few rungs


@dataclass(frozen=True, slots=True)
class Tables:
    """What the vision graph needs to know of a frame size (P patches, in merge-block order).

    Attributes:
        pos_index: int64, shape (4, P): corners of the bilinear look-up in the square position table, the row's lower
            neighbour first, and in it the column's lower one.
        pos_weight: float32, shape (4, P).
        rope_cos: float32, shape (P, head_dim / 2): row frequencies, then column frequencies.
        rope_sin: As ``rope_cos``.
    """

    pos_index: NDArray[np.int64]
    pos_weight: NDArray[np.float32]
    rope_cos: NDArray[np.float32]
    rope_sin: NDArray[np.float32]


def tables(rows: int, columns: int, vision: Vision) -> Tables:
    """Compute the tables of a grid of patches.

    Sources: ``get_vision_interpolation_indices_and_weights`` (bilinear, align_corners) and ``get_vision_position_ids`` of
    transformers 5.23.0, ``vision_utils.py``; `Qwen3_5VisionRotaryEmbedding`.
    """
    merge = vision.merge_size
    blocks = (rows // merge, merge, columns // merge, merge)
    order = np.arange(rows * columns).reshape(blocks).transpose(0, 2, 1, 3).ravel()
    row, column = order // columns, order % columns
    row_tap, row_weight = _taps(row, rows, vision.positions)
    column_tap, column_weight = _taps(column, columns, vision.positions)
    index = row_tap[:, None] * vision.positions + column_tap[None, :]
    weight = row_weight[:, None] * column_weight[None, :]
    quarter = vision.head_dim // 4
    exponent = np.arange(quarter, dtype=np.float32) / np.float32(quarter)
    frequency = np.float32(1) / np.float32(vision.rope_theta) ** exponent
    places = np.stack([row, column], axis=1).astype(np.float32)  # [P, 2]
    angles = (places[:, :, None] * frequency).reshape(rows * columns, 2 * quarter)
    return Tables(
        np.ascontiguousarray(index.reshape(4, -1)),
        np.ascontiguousarray(weight.reshape(4, -1)),
        np.cos(angles),
        np.sin(angles),
    )


def _taps(places: NDArray[np.int64], length: int, side: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return the two neighbours in a table of ``side`` entries and their weights, each of shape (2, P)."""
    source = places.astype(np.float32) * np.float32(side - 1) / np.float32(max(length - 1, 1))
    floor = np.floor(source)
    low = floor.astype(np.int64)
    share = source - floor
    taps = np.clip(np.stack([low, low + 1]), 0, side - 1)
    return taps, np.stack([np.float32(1) - share, share])


class VisionTower:
    """The vision session.

    Args:
        bundle: A checked bundle.
        threads: Threads for one operator, >= 1.
        prepared: Where packed weights may lie.
        packed: As in `edge.model.sessions.session_options`.

    Raises:
        BundleError: The graph cannot be loaded or is not the manifest's.
    """

    def __init__(
        self, bundle: Bundle, *, threads: int, prepared: Prepared | None = None, packed: bool = True
    ) -> None:
        self._vision = bundle.manifest.vision
        graph = bundle.manifest.graphs.vision
        self._session = open_session(bundle, graph, threads=threads, prepared=prepared, packed=packed)
        self._shrinking = shrinking()
        self._tables: dict[Size, Tables] = {}

    def batch(self, size: Size) -> int:
        """Return how many pairs of this size are best encoded at once."""
        patches = (size.height // self._vision.patch_size) * (size.width // self._vision.patch_size)
        return max(1, PATCHES_AT_ONCE // patches)

    def encode(self, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Encode pairs of frames; each pair is seen by itself, so the grouping does not matter.

        Args:
            frames: Shape (N, 2, H, W, 3), N >= 1; H and W are multiples of 32.

        Returns:
            Shape (N, V, hidden) with V visual tokens a pair, row by row on the merged grid.

        Raises:
            ModelError: onnxruntime failed.
        """
        size = Size(frames.shape[2], frames.shape[3])
        found = self._table(size)
        patches = patchify(frames, self._vision)
        feeds = {
            "patches": patches,
            "pos_index": found.pos_index,
            "pos_weight": found.pos_weight,
            "rope_cos": found.rope_cos,
            "rope_sin": found.rope_sin,
        }
        # A still may take memory that no pair of frames needs again.
        options = self._shrinking if patches.shape[0] * patches.shape[1] > PATCHES_AT_ONCE else None
        with translated("vision tower"):
            embeds: NDArray[np.float32] = self._session.run(["embeds"], feeds, options)[0]
        return embeds

    def _table(self, size: Size) -> Tables:
        found = self._tables.get(size)
        if found is None:
            patch = self._vision.patch_size
            found = tables(size.height // patch, size.width // patch, self._vision)
            while len(self._tables) >= _TABLES_KEPT:
                self._tables.pop(next(iter(self._tables)))
            self._tables[size] = found
        return found
