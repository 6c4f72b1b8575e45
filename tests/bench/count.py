"""Operations and bytes per token of every kind of product, counted in a bundle's graphs, and what they come to on a device.

usage: python -m tests.bench.count BUNDLE [--device "Raspberry Pi 5"] [--context 6800]

Nothing is run and nothing is measured: seconds are operations over the sustained speeds, and bytes over the bandwidth, that
`edge.host.devices` gives for the device, so they are estimates. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from pathlib import Path
from typing import Final

from edge.bench.plan import SOURCE
from edge.host.devices import JETSON_ORIN_NANO, RASPBERRY_PI_5
from edge.model.bundle import open_bundle
from edge.model.census import _products, _read, census
from edge.model.layout import merged_grid
from edge.model.manifest import Graph
from edge.model.preprocess import video_size
from export.inspection import _weight_class

DEVICES: Final = {device.name: device for device in (RASPBERRY_PI_5, JETSON_ORIN_NANO)}
TICKS: Final = 480
FORMS: Final = {"row": "int8 by row", "block": "in blocks", "float": "float32"}


def main() -> None:
    """Count and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--device", choices=sorted(DEVICES), default=RASPBERRY_PI_5.name)
    parser.add_argument("--context", type=int, default=6800, help="tokens before: half a clip")
    given = parser.parse_args()
    bundle, device, context = open_bundle(given.bundle), DEVICES[given.device], given.context
    manifest, counted = bundle.manifest, census(bundle)
    graphs, rates = (
        manifest.graphs,
        {"row": device.row_gops, "block": device.block_gops, "float": device.fp32_gops},
    )
    grid = merged_grid(video_size(SOURCE, TICKS, manifest.video_pixels, manifest.vision), manifest)
    cells, patches = grid[0] * grid[1], manifest.vision.merge_size**2

    def by_kind(graph: Graph) -> dict[tuple[str, str], tuple[float, float]]:
        """Return operations and bytes by class of weights and form."""
        found: dict[tuple[str, str], tuple[float, float]] = defaultdict(lambda: (0.0, 0.0))
        for product in _products(_read(bundle, graph))[0]:
            kind = "head" if product.outputs == manifest.tokens.vocab_rows else _weight_class(product.weight)
            kind = "turns" if not product.outputs else kind
            times = patches if graph is graphs.vision and ".merger." not in product.weight else 1
            ops, size = found[kind, product.form]
            found[kind, product.form] = ops + times * product.ops, size + product.size
        return dict(found)

    recurrent = sum(7.0 * _size(state.shape) for state in manifest.states if state.kind == "recurrent")
    fixed = sum(4.0 * _size(state.shape) for state in manifest.states if state.kind != "kv")
    rows = [
        ("prefill, a token", kind, form, ops, 0.0)
        for (kind, form), (ops, _) in by_kind(graphs.prefill or graphs.decoder).items()
        if kind != "head"
    ]
    rows += [
        ("prefill, a token", "delta rule", "float", recurrent, 0.0),
        ("prefill, a token", f"attention to {context:,}", "float", context * counted.context_float_ops, 0.0),
    ]
    rows += [
        ("decode, a word", kind, form, ops, size)
        for graph in (graphs.decoder, graphs.head)
        if graph is not None
        for (kind, form), (ops, size) in by_kind(graph).items()
    ]
    rows += [
        ("decode, a word", "recurrent and convolution states", "float", recurrent, 2 * fixed),
        (
            "decode, a word",
            f"keys and values of {context:,}",
            "float",
            context * counted.context_float_ops,
            context * counted.context_bytes,
        ),
    ]
    rows += [
        ("vision, a pair", kind, form, cells * ops, 0.0)
        for (kind, form), (ops, _) in by_kind(graphs.vision).items()
    ]
    rows.append(("vision, a pair", "attention", "float", cells * cells * counted.cells_float_ops, 0.0))
    write = sys.stdout.write
    write(f"{manifest.model.id}, {manifest.recipe.name}, on a {device.name}: an estimate, nothing was run\n")
    totals: dict[str, float] = defaultdict(float)
    for stage, kind, form, ops, size in rows:
        took = size / device.memory_gbs / 1e9 if stage.startswith("decode") else ops / rates[form] / 1e9
        totals[stage] += took
        write(
            f"{stage:17} {kind:33} {FORMS[form]:12} {ops / 1e6:10.1f} MOP {size / 1e6:8.1f} MB {took * 1e3:8.2f} ms\n"
        )
    for stage, took in totals.items():
        write(f"{stage:17} {1e3 * took:.2f} ms, {1 / took:.1f} a second\n")
    listed = [dict(zip(("stage", "what", "form", "ops", "bytes"), row, strict=True)) for row in rows]
    write(
        json.dumps(
            {
                "recipe": manifest.recipe.name,
                "device": device.name,
                "ms": {name: round(1e3 * took, 2) for name, took in totals.items()},
                "rows": listed,
            }
        )
        + "\n"
    )


def _size(shape: tuple[int | str, ...]) -> float:
    found = 1.0
    for size in shape:
        found *= int(size)
    return found


if __name__ == "__main__":
    main()
