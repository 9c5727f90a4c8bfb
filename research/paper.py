"""The paper's pre-training, and its fine-tuning on public data sets (research/README.md).

python -m research.paper arrange  RECIPE SET OUT
python -m research.paper pretrain --images LIST --out BACKBONE
python -m research.paper finetune RECIPE --images DIR --labels DIR --backbone BACKBONE --out MODEL
python -m research.paper evaluate RECIPE --predictions DIR --labels DIR --out report.json
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from glmae.errors import GLMAEError
from glmae.pretraining.image_files import pretrain_images
from glmae.scans.cases import find_images
from glmae.segmentation.finetuning import finetune
from glmae.terminal import terminal

from .arrange import arrange
from .paper_pretraining import BATCH, PRESET, paper_preparation, paper_settings, paper_steps
from .recipes import RECIPES
from .regions import evaluate_regions


def main(words: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status, as those of `glmae`."""
    options = _parser().parse_args(words)
    events = terminal()
    try:
        if options.command == "arrange":
            arrange(RECIPES[options.recipe], options.set, options.out, events)
        elif options.command == "pretrain":
            settings = paper_settings(options.preset, options.batch) | dict(options.setting)
            length = _length(options)
            if not length:
                length = {"steps": paper_steps(len(find_images([options.images], unique=False)), options.batch)}
            failed = pretrain_images(
                images=options.images,
                out=options.out,
                preset=options.preset,
                preparation=paper_preparation(),
                settings=settings,
                events=events,
                **length,
                **_common(options),
            )
            return 1 if failed else 0
        elif options.command == "finetune":
            recipe = RECIPES[options.recipe]
            finetune(
                images=options.images,
                labels=options.labels,
                out=options.out,
                backbone=options.backbone,
                preparation=recipe.preparation,
                settings=recipe.settings | dict(options.setting),
                events=events,
                **(_length(options) or {"steps": recipe.steps}),
                **_common(options),
            )
        else:
            regions = RECIPES[options.recipe].regions
            evaluate_regions(options.predictions, options.labels, regions, options.out)
    except GLMAEError as error:
        events.failed(type(error).__name__, str(error))
        return error.exit_status
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m research.paper", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    order = commands.add_parser("arrange", help="the set in folders that glmae reads: OUT/train, OUT/validation")
    order.add_argument("recipe", choices=RECIPES)
    order.add_argument("set", type=Path, help="the folder that the set was unpacked to; it is not changed")
    order.add_argument("out", type=Path)
    pretrain = commands.add_parser("pretrain", help="the paper's own pre-training on CT")
    pretrain.add_argument("--preset", choices=("tiny", "small", "base"), default=PRESET)
    pretrain.add_argument("--batch", type=int, default=BATCH)
    tune = commands.add_parser("finetune", help="the paper's fine-tuning on one set")
    tune.add_argument("recipe", choices=RECIPES)
    tune.add_argument("--labels", type=Path, required=True)
    tune.add_argument("--backbone", required=True, help="a backbone's folder, or none to train from scratch")
    for command in (pretrain, tune):
        command.add_argument("--images", type=Path, required=True)
        command.add_argument("--out", type=Path, required=True)
        length = command.add_mutually_exclusive_group()
        length.add_argument("--steps", type=int, help="default: as many as the paper's")
        length.add_argument("--minutes", type=float)
        command.add_argument("--seed", type=int, default=0)
        command.add_argument("--device", default="auto")
        command.add_argument("--resume", action="store_true")
        command.add_argument("--setting", type=_setting, action="append", default=[], metavar="NAME=VALUE")
    evaluate = commands.add_parser("evaluate", help="the regions of a set that has some, instead of its classes")
    evaluate.add_argument("recipe", choices=[name for name, recipe in RECIPES.items() if recipe.regions])
    for name in ("--predictions", "--labels", "--out"):
        evaluate.add_argument(name, type=Path, required=True)
    return parser


def _setting(text: str) -> tuple[str, Any]:
    name, _, value = text.partition("=")
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value


def _length(options: argparse.Namespace) -> dict[str, Any]:
    return {name: value for name in ("steps", "minutes") if (value := getattr(options, name)) is not None}


def _common(options: argparse.Namespace) -> dict[str, Any]:
    return {name: getattr(options, name) for name in ("seed", "device", "resume")}


if __name__ == "__main__":
    sys.exit(main())
