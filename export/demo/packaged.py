"""The demo model as it is kept: its weights beside this file, the bundle inside the package that is made of them, and its card.

`python -m export.demo.packaged keep CHECKPOINT...` takes a training's weights over, `... bundle OUT [--recipe int8]` converts them,
`... card` writes the card from scores.json, which is the line that `export.demo.evaluate` printed last.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from edge.errors import CheckpointError, EdgeError
from edge.model.manifest import MANIFEST, Manifest
from edge.share import demo_bundle
from export.convert import convert
from export.demo.evaluate import FIRST_SEED, table
from export.recipes import load_recipe

WEIGHTS: Final = Path(__file__).parent / "weights" / "edgeclip-demo"
ORIGIN: Final = WEIGHTS.with_name("README.md")
"""Licence, training and purpose of the weights; to be changed with them."""
RECIPE: Final = "int8"
NOTE: Final = "a demonstration, trained on a drawn world: of real footage its words mean nothing"
CARD: Final = demo_bundle().with_name("MODEL.md")
SCORES: Final = demo_bundle().with_name("scores.json")
_TEXT: Final = """\
# The demo model

Qwen3.5's architecture ({parameters:,} parameters: a vision tower, Gated DeltaNet, one layer of gated attention in four), trained from
nothing on edgeclip's own drawn world. It goes through the converter and the engine that the releases go through, so whether answers
are right can be measured. It knows pictograms on textures and nothing else; of real footage its words mean nothing.
Licence: Apache-2.0, as the project; the pictograms' licence is in `world/PICTOGRAMS.md`.

## Scores

Stage {stage}: {clips} held-out clips of {shortest:g} to {longest:g} s, {long} of them of {longest:g} s, encoded as H.264 and read back by the capture path, every frame shown; {novel} hold a
combination of kind, colour and way that training never showed (`novel`). Seeds {first:,} to {last:,} of the split `held_out`. Percent, with
the interval in which 95 % of the resamples of clips lie. An event is right when sprite, verb, beginning and end are, each time within half
a second. The last rows are of {checks} of the clips: with falsified input the score must fall, and at once must say what streamed said.

```
{table}```

Command, for bundles of the recipes named in the first row, made by `python -m export.demo.packaged bundle OUT --recipe NAME`:

```sh
python -m export.demo.evaluate FP32 INT8 INT4 --stage {stage} --clips {clips} --checks {checks}
```

Its last line is `scores.json` beside this file; this text is made of it (`python -m export.demo.packaged card`).
"""


def keep(checkpoints: Sequence[Path]) -> None:
    """Take over the weights of a training in bfloat16, half of the size, as the releases are stored.

    Args:
        checkpoints: Directories as `export.demo.train` writes them. Of several, of which each went on from another, the mean
            of all: it is often better than each of them (Wortsman et al. 2022, model soups).

    Raises:
        CheckpointError: One is none, or another model's.
    """
    import torch
    from safetensors.torch import load_file, save_file

    for checkpoint in checkpoints:
        missing = [name for name in ("config.json", "model.safetensors") if not (checkpoint / name).is_file()]
        if missing:
            raise CheckpointError(
                f"{checkpoint} holds no checkpoint",
                evidence=[f"{name} is missing" for name in missing],
                next_step="Give the directory `checkpoint` of a training: python -m export.demo.train OUT --stage b",
            )
    every = [load_file(checkpoint / "model.safetensors") for checkpoint in checkpoints]
    shapes = [{name: weight.shape for name, weight in weights.items()} for weights in every]
    if any(each != shapes[0] for each in shapes):
        raise CheckpointError(
            "these checkpoints are not of one model",
            evidence=[str(checkpoint) for checkpoint in checkpoints],
            next_step="Give checkpoints of which each went on from another.",
        )
    aside = WEIGHTS.with_name(".aside")
    shutil.rmtree(aside, ignore_errors=True)
    shutil.copytree(checkpoints[0], aside, ignore=shutil.ignore_patterns("*.safetensors"))
    mean = {name: torch.stack([weights[name].float() for weights in every]).mean(0) for name in shapes[0]}
    narrow = {name: weight.to(torch.bfloat16).contiguous() for name, weight in mean.items()}
    save_file(narrow, aside / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((aside / "config.json").read_bytes())
    config["text_config"]["dtype"] = "bfloat16"
    (aside / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    shutil.rmtree(WEIGHTS, ignore_errors=True)
    aside.rename(WEIGHTS)


def make(out: Path, recipe: str = RECIPE) -> Path:
    """Convert the kept weights.

    Args:
        out: Directory of the bundle; must not exist.
        recipe: Name of a recipe.

    Raises:
        EdgeError: OUT exists, or the conversion failed.
    """
    return convert(str(WEIGHTS), out, load_recipe(recipe), note=NOTE).bundle.path


def card(scores: dict[str, Any]) -> str:
    """Return the card.

    Args:
        scores: What `export.demo.evaluate` printed in its last line.

    Returns:
        Markdown, with what `ORIGIN` says of the weights at its end.
    """
    found, lengths = scores["bundles"], [float(length) for length in scores["lengths_s"]]
    manifest = Manifest.model_validate_json((demo_bundle() / MANIFEST).read_bytes())
    return (
        _TEXT.format(
            parameters=manifest.model.parameters,
            stage=scores["stage"],
            clips=scores["clips"],
            shortest=min(lengths),
            longest=max(lengths),
            long=scores["lengths_s"][f"{max(lengths):g}"],
            novel=found[0]["novel_clips"],
            first=FIRST_SEED,
            last=FIRST_SEED + scores["clips"] - 1,
            checks=found[0]["one_shot_differs"][1],
            table=table(found),
        )
        + "\n"
        + ORIGIN.read_text(encoding="utf-8").partition("\n\n")[2]  # without its title
    )


def main() -> None:
    """Run the command."""
    args = _arguments().parse_args()
    try:
        if args.do == "keep":
            keep(args.checkpoints)
            written = WEIGHTS
        elif args.do == "bundle":
            written = make(args.out, args.recipe)
        else:
            CARD.write_text(card(_scores()), encoding="utf-8")
            written = CARD
    except EdgeError as error:
        sys.stderr.write(error.render() + "\n")
        sys.exit(error.exit_code)
    sys.stdout.write(f"{written}\n")


def _scores() -> dict[str, Any]:
    try:
        scores: dict[str, Any] = json.loads(SCORES.read_bytes())
    except (OSError, ValueError) as error:
        raise EdgeError(
            f"there are no scores in {SCORES}",
            evidence=[str(error)],
            next_step="Write the last line of export.demo.evaluate there.",
        ) from error
    return scores


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m export.demo.packaged", description=__doc__)
    does = parser.add_subparsers(dest="do", required=True)
    kept = does.add_parser("keep", help="take over a training's weights")
    kept.add_argument(
        "checkpoints", type=Path, nargs="+", help="OUT/checkpoint of export.demo.train; of several, the mean"
    )
    made = does.add_parser("bundle", help="convert the kept weights")
    made.add_argument("out", type=Path, help="the bundle's directory; must not exist")
    made.add_argument("--recipe", default=RECIPE)
    does.add_parser("card", help="write the card of the scores beside it")
    return parser


if __name__ == "__main__":
    main()
