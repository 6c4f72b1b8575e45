"""The same bundles on this processor, on an emulated Cortex-A76 and on an emulated x86 without VNNI: are they as exact there?

usage: python -m tests.bench.processors PLACE [--recipes int8 w8a8 w8a8-int4 int4] [--factors 50 300]
                                              [--processors native cortex-a76 haswell]

Small checkpoints, some with planted outlier channels (`tests.planted`), become bundles; each is shown a clip and asked a
question by `edge.model` itself, prefill graph, rounded cache and all. An error is that of the logits against the float32
bundle on this processor. Before that, the products that recipes use, alone, on numbers at the ends of their range: integer
kernels that saturate show there. PLACE keeps bundles and packages for the next time. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from tests.bench import emulation

ANSWER: Final = (5, 6, 7, 8, 9, 10, 11, 12)
ALLOWED: Final = 1.5  # times the error of int8 in blocks of 128, on the same processor
ROUNDING: Final = (
    0.01  # of a lone product: activations of eight bits; sums that are cut off are off by more than 1
)
WIDTH: Final = 512  # inputs and outputs of a lone product
ROWS: Final = (1, 2, 16, 96)  # of inputs: kernels differ
Array = NDArray[np.float32]


def ask(bundles: dict[str, str], products: Path, out: Path) -> None:
    """Run products and bundles on the processor at hand; nothing but what a device has installed is imported."""
    import onnxruntime as ort

    from edge.model.bundle import open_bundle
    from edge.model.engine import Engine
    from edge.model.sessions import session_options
    from export.candidate import Question, clip_pairs, teacher_logits

    found: dict[str, Any] = {}
    inputs = np.load(products / "inputs.npz")
    for file in sorted(products.glob("*.onnx")):
        options = session_options(emulation.THREADS)
        session = ort.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        for name, x in inputs.items():
            wanted = session.get_inputs()[0].type == "tensor(uint8)"
            if wanted == (x.dtype == np.uint8):
                found[f"{file.stem}|{name}"] = session.run(None, {"x": x})[0]
    frames = np.random.default_rng(1).integers(0, 255, (8, 96, 128, 3), np.uint8)
    question = Question("what is it, where is it and since when is it there", pairs=clip_pairs(frames, 8.0))
    for name, path in bundles.items():
        with Engine(open_bundle(Path(path)), threads=emulation.THREADS) as engine:
            found[name] = teacher_logits(engine, question, ANSWER)
        sys.stderr.write(f"{name}\n")
    np.savez(out, **found)


def make_bundles(place: Path, recipes: list[str], factors: list[float]) -> dict[str, str]:
    """Write checkpoints and convert them; what is there already is taken as it is."""
    from export.convert import convert
    from export.recipes import load_recipe
    from tests import planted

    kinds = [("plain", None, 1.0)] + [
        (f"{kind} {factor:g}x", kind, factor) for kind in planted.KINDS for factor in factors
    ]
    found = {}
    for title, kind, factor in kinds:
        source = place / title.replace(" ", "-") / "checkpoint"
        if not (source / "config.json").exists():
            planted.write(source, kind, factor)
        for recipe in ["fp32", *recipes]:
            bundle = source.parent / recipe
            if not bundle.exists():
                convert(str(source), bundle, load_recipe(recipe))
            found[f"{title}|{recipe}"] = str(bundle)
    return found


def make_products(place: Path) -> dict[str, Array]:
    """Write one graph for each kind of product, and its inputs; return the weights as the kernels should see them."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    from export.quantize import dequantize, quantize, quantize_rows
    from export.recipes import Format

    rng = np.random.default_rng(0)
    place.mkdir(parents=True, exist_ok=True)
    weights = rng.standard_normal((WIDTH, WIDTH), np.float32)
    weights[: WIDTH // 4] = np.sign(weights[: WIDTH // 4])  # rows that know only the ends of the range
    weights[: WIDTH // 8] = 1
    extreme = np.ones((max(ROWS), WIDTH), np.float32)
    plain = rng.standard_normal(extreme.shape, np.float32)
    inputs = {
        f"{name} {count}": x[:count] for name, x in (("ends", extreme), ("random", plain)) for count in ROWS
    }
    kept: dict[str, Any] = {**inputs, **{f"{name} u8": _unsigned(x) for name, x in inputs.items()}}
    np.savez(place / "inputs.npz", **kept)
    seen = {}
    for name, form in {
        "4 bits block 32": Format(4, 32, zero_points=True),
        "4 bits block 128": Format(4, 128, zero_points=True),
        "8 bits block 128": Format(8, 128),
        "8 bits by row": Format(8),
    }.items():
        if form.by_row:
            rows = quantize_rows(weights)
            seen[name] = rows.values.astype(np.float32) * rows.scales[:, None]
            constants = {"w": np.ascontiguousarray(rows.values.T), "one": np.ones(1, np.float32)}
            constants |= {"s": rows.scales, "z": np.array([128], np.uint8)}
            kind, dtype, attributes = "MatMulIntegerToFloat", TensorProto.UINT8, {}
        else:
            blocks = quantize(weights, form)
            seen[name] = dequantize(blocks, WIDTH, form)
            constants = {"w": blocks.values, "s": blocks.scales}
            if blocks.zero_points is not None:
                constants["z"] = blocks.zero_points
            kind, dtype = "MatMulNBits", TensorProto.FLOAT
            attributes = {
                "K": WIDTH,
                "N": WIDTH,
                "bits": form.bits,
                "block_size": form.block,
                "accuracy_level": 4,
            }
        graph = helper.make_graph(
            [helper.make_node(kind, ["x", *constants], ["y"], domain="com.microsoft", **attributes)],
            "product",
            [helper.make_tensor_value_info("x", dtype, ["T", WIDTH])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["T", WIDTH])],
            [numpy_helper.from_array(value, key) for key, value in constants.items()],
        )
        opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
        onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), place / f"{name}.onnx")
    return seen


def _unsigned(x: Array) -> NDArray[np.uint8]:
    """Round to 8 bits around 128, as the graphs do, with one scale for all: 1 is 255."""
    rounded: NDArray[np.uint8] = (np.clip(np.rint(x * 127), -127, 127) + 128).astype(np.uint8)
    return rounded


def product_errors(found: Any, weights: dict[str, Array], place: Path) -> dict[str, float]:
    """Return for each kind of product and input the worst relative error over the numbers of rows."""
    inputs = np.load(place / "inputs.npz")
    errors: dict[str, float] = {}
    for name in found:
        kind, _, given = name.partition("|")
        if kind not in weights:
            continue
        x = inputs[given].astype(np.float64)
        x = x - 128 if inputs[given].dtype == np.uint8 else x
        key = f"{kind}, {given.split()[0]}"
        errors[key] = max(errors.get(key, 0.0), relative(found[name], x @ weights[kind].T.astype(np.float64)))
    return errors


def relative(found: NDArray[Any], expected: NDArray[Any]) -> float:
    """Return the root mean square of the differences over that of the expected numbers."""
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


def table(logits: dict[str, Any], recipes: list[str]) -> Iterator[dict[str, Any]]:
    """Yield for each checkpoint and processor the errors of all recipes."""
    titles = sorted({name.split("|")[0] for name in logits["native"] if name.endswith("|fp32")})
    for title in titles:
        expected = logits["native"][f"{title}|fp32"]
        for processor, found in logits.items():
            errors = {recipe: relative(found[f"{title}|{recipe}"], expected) for recipe in ["fp32", *recipes]}
            yield {"checkpoint": title, "processor": processor, "errors": errors}


def main() -> None:
    """Make, run and compare; exits with 1 where a product or a recipe of eight bits is out of bounds."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("place", type=Path)
    parser.add_argument("--recipes", nargs="+", default=["int8", "w8a8", "w8a8-int4", "int4"])
    parser.add_argument("--factors", nargs="+", type=float, default=[50.0, 300.0])
    parser.add_argument("--processors", nargs="+", default=["native", "cortex-a76", "haswell"])
    parser.add_argument("--ask", action="store_true", help=argparse.SUPPRESS)  # the emulated half
    given = parser.parse_args()
    place: Path = given.place.absolute()
    if given.ask:
        ask(json.loads((place / "bundles.json").read_text()), place / "products", Path(given.processors[0]))
        return
    place.mkdir(parents=True, exist_ok=True)
    bundles = make_bundles(place, given.recipes, given.factors)
    (place / "bundles.json").write_text(json.dumps(bundles))
    weights = make_products(place / "products")
    pythons = {
        "native": lambda _: [sys.executable],
        "cortex-a76": emulation.cortex_a76,
        "haswell": emulation.haswell,
    }
    logits: dict[str, Any] = {}
    result: dict[str, Any] = {"products": {}, "logits": []}
    for processor in given.processors:
        out = place / f"{processor}.npz"
        script = ["-m", "tests.bench.processors", str(place), "--ask", "--processors", str(out)]
        subprocess.run([*pythons[processor](place), *script], check=True, cwd=emulation.ROOT)
        logits[processor] = dict(np.load(out))
        result["products"][processor] = product_errors(logits[processor], weights, place / "products")
    write = sys.stdout.write
    for kind in result["products"]["native"]:
        errors = (f"{name} {100 * found[kind]:.3f} %" for name, found in result["products"].items())
        write(f"{kind:28} {'   '.join(errors)}\n")
    wrong = sum(error > ROUNDING for found in result["products"].values() for error in found.values())
    for row in table(logits, given.recipes):
        result["logits"].append(row)
        blocks = row["errors"].get("int8", 0.0)
        shown = []
        for recipe, error in row["errors"].items():
            beyond = recipe == "w8a8" and error > ALLOWED * blocks
            wrong += beyond
            ratio = f" ({error / blocks:.2f}x)" if blocks and recipe not in {"fp32", "int8"} else ""
            shown.append(f"{recipe} {100 * error:.3f} %{ratio}{' BEYOND' if beyond else ''}")
        write(f"{row['checkpoint']:16} {row['processor']:11} {'   '.join(shown)}\n")
    write(json.dumps(result) + "\n")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
