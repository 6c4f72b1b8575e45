"""What a clip costs on this machine with this bundle, and which rung each camera can afford; pure but for `load`, `save`.

    seconds = pairs x cells x cell_s + prefill of the tokens of pairs and prompts + words x word_s

where a token, read or written, costs more the longer the context is that it attends to.

The costs are predicted from counted work at the very first start, then learnt from every answer and kept for the next
start. A cell is the 32 x 32 pixels of a pair that become one visual token.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from edge.host.devices import Device
from edge.host.governor import RUNGS, SHORT, Rung
from edge.messages import Provenance
from edge.records import Census

ALPHA = 0.2  # weight of the newest clip: what has changed is believed after a handful
CELL_PIXELS = 32 * 32
WORD_S = 0.0015  # of each word beside the model's own work: grammar, sampling, calls; measured with a bundle of toy dimensions


@dataclass(frozen=True, slots=True)
class Costs:
    """Seconds of work.

    Attributes:
        cell_s: Of the vision tower, per cell of a pair.
        token_s: Of prefill, per token at the beginning of a context.
        bend: By how much of that a token costs more per token before it (attention).
        word_s: Of decoding, per token written at the beginning of a context.
        word_bend: As ``bend``, of a token written.
        pair_tokens: Tokens of a pair beside its cells: time stamp and markers.
        clips: Answers that these were learnt from; 0: predicted.
    """

    cell_s: float
    token_s: float
    bend: float
    word_s: float
    word_bend: float = 0.0
    pair_tokens: float = 10.0
    clips: int = 0

    def prefill_s(self, tokens: float) -> float:
        """Return the seconds of prefill of so many tokens from an empty context."""
        return tokens * self.token_s * (1 + self.bend * tokens / 2)

    def words_s(self, words: float, tokens: float) -> float:
        """Return the seconds of decoding of so many words behind so many tokens."""
        return words * self.word_s * (1 + self.word_bend * tokens)


@dataclass(frozen=True, slots=True)
class Need:
    """What there is to do for a clip.

    Attributes:
        kept: Pairs that the gate lets through.
        grid: Pairs of a whole clip.
        cells: Of a pair at full size.
        words: Tokens of all answers.
        asked: Tokens of all prompts.
    """

    kept: float
    grid: int
    cells: float
    words: float
    asked: float = 300.0

    def pairs(self, rung: Rung) -> float:
        """Return how many pairs the model is shown at most. A raised gate saves what nobody can tell beforehand."""
        return min(self.kept, self.grid * rung.fps)


@dataclass(frozen=True, slots=True)
class Seen:
    """What an answer says of the work that it took, all of it up to this answer; see `edge.messages.Provenance`."""

    pairs: int
    cells: float
    tokens_in: int
    tokens_out: int
    vision_s: float
    prefill_s: float
    decode_s: float


def seen(made: Provenance) -> Seen:
    """Return what an answer's provenance says of its work."""
    return Seen(
        pairs=made.pairs,
        cells=made.frame_height * made.frame_width / CELL_PIXELS,
        tokens_in=made.tokens_in,
        tokens_out=made.tokens_out,
        vision_s=made.latency.vision,
        prefill_s=made.latency.prefill,
        decode_s=made.latency.decode,
    )


def clip_s(costs: Costs, need: Need, rung: Rung) -> float:
    """Return the seconds of work for one clip at a rung."""
    pairs = need.pairs(rung)
    cells = max(1.0, need.cells * rung.area)
    tokens = pairs * (cells + costs.pair_tokens) + need.asked
    text_s = costs.words_s(need.words * rung.tokens, tokens)
    return pairs * cells * costs.cell_s + costs.prefill_s(tokens) + text_s


def learn(costs: Costs, seen: Seen) -> Costs:
    """Return the costs with one answer more in them; the first measurement replaces a prediction."""
    weight = 1.0 if not costs.clips else ALPHA

    def mixed(before: float, now: float) -> float:
        return before + weight * (now - before)

    return replace(
        costs,
        cell_s=mixed(costs.cell_s, seen.vision_s / (seen.pairs * seen.cells))
        if seen.pairs and seen.cells
        else costs.cell_s,
        token_s=mixed(
            costs.token_s, seen.prefill_s / (seen.tokens_in * (1 + costs.bend * seen.tokens_in / 2))
        )
        if seen.tokens_in
        else costs.token_s,
        word_s=mixed(costs.word_s, seen.decode_s / (seen.tokens_out * (1 + costs.word_bend * seen.tokens_in)))
        if seen.tokens_out
        else costs.word_s,
        clips=costs.clips + 1,
    )


def allot(costs: Costs, needs: Mapping[str, Need], limit_s: float) -> dict[str, int]:
    """Return for each camera the best rung at which all of them together take at most ``limit_s`` a clip.

    As long as it is too much, whoever costs most gives way first, so that a busy camera never takes a quiet one's
    share. Where even the last rung that still looks at every clip is too much, that one is returned.
    """
    rungs = dict.fromkeys(needs, 0)
    prices = {
        camera: [clip_s(costs, need, rung) for rung in RUNGS[: SHORT + 1]] for camera, need in needs.items()
    }
    while sum(prices[camera][rung] for camera, rung in rungs.items()) > limit_s:
        able = [camera for camera, rung in rungs.items() if rung < SHORT]
        if not able:
            break
        camera = max(able, key=lambda name: (prices[name][rungs[name]], name))
        rungs[camera] += 1
    return {camera: _cheapest_loss(prices[camera], rung) for camera, rung in rungs.items()}


def best_rung(costs: Costs, need: Need, limit_s: float) -> int:
    """Return the best rung at which one clip takes at most ``limit_s``."""
    return allot(costs, {"": need}, limit_s)[""]


def _cheapest_loss(prices: list[float], rung: int) -> int:
    """Return the best rung that costs no more than this one: what saves nothing is not given up."""
    return next(better for better in range(rung + 1) if prices[better] <= prices[rung])


def costs_file(cache: Path) -> Path:
    """Return where costs are kept in a cache directory."""
    return cache / "costs.json"


def key(bundle: str, device: Device, threads: int) -> str:
    """Return what costs belong to: a bundle's hash, a kind of device, threads of the model (0: all cores)."""
    return f"{bundle} {device.name} {threads or device.cores}"


def load(path: Path, key: str) -> Costs | None:
    """Return the costs that were saved under a key; None where there are none, or the file is not ours."""
    with suppress(OSError, ValueError, TypeError, KeyError):
        found = dict(json.loads(path.read_text(encoding="utf-8"))[key])
        clips = int(found.pop("clips"))
        numbers = {name: float(value) for name, value in found.items()}
        if all(0 <= value < math.inf for value in numbers.values()):
            return Costs(clips=clips, **numbers)
    return None


def save(path: Path, key: str, costs: Costs) -> None:
    """Keep the costs for the next start, aside first; a full or read-only disk is no reason to stop.

    Other keys stay: a device may change between bundles.
    """
    found: dict[str, object] = {}
    with suppress(OSError, ValueError, TypeError):
        found = dict(json.loads(path.read_text(encoding="utf-8")))
    found[key] = asdict(costs)
    aside = path.with_suffix(".new")
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        aside.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        aside.replace(path)


def predicted(census: Census, device: Device, *, cells: float, pair_tokens: float = 10.0) -> Costs:
    """Return what a bundle should cost on a device, from what is counted in its graphs and how fast the device is.

    Args:
        census: Of the bundle.
        device: Its profile.
        cells: Of a pair, for attention inside the vision tower.
        pair_tokens: Tokens of a pair beside its cells.
    """

    def seconds(block_ops: float, row_ops: float, float_ops: float) -> float:
        return (
            block_ops / device.block_gops + row_ops / device.row_gops + float_ops / device.fp32_gops
        ) / 1e9

    token_s = seconds(census.token_block_ops, census.token_row_ops, census.token_float_ops)
    cell_float_ops = census.cell_float_ops + cells * census.cells_float_ops
    return Costs(
        cell_s=seconds(census.cell_block_ops, census.cell_row_ops, cell_float_ops),
        token_s=token_s,
        bend=seconds(0.0, 0.0, census.context_float_ops) / token_s,
        word_s=WORD_S + census.word_bytes / (device.memory_gbs * 1e9),
        word_bend=census.context_bytes / census.word_bytes,
        pair_tokens=pair_tokens,
    )
