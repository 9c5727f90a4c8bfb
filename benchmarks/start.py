"""Ways to begin and to go on with a fine-tuning, at equal steps.

    python benchmarks/start.py --data DIR [--sets ...] [--labels 1 2] [--seeds 0 1 2] [--steps 0 120] [--arms new ...]
                               [--before CHECKOUT] [--threads 1] [--coarse] [--tuning --out FILE]
    python benchmarks/start.py --table                           # the rows as they stand in docs/benchmarks.md

Arms: `new` is what `glmae finetune` does (with 0 steps the instant model); `new_high` the same with full rates;
`low` the gentle rates without the fitted head; `scratch_new` the same as `new` from a random backbone; `gpu_plan` is
`new` with scans of 192^3 and crops of 96^3 voxels, which a GPU gets, instead of 128^3 and 64^3; `from` goes on
from a model that was trained as long on all labels but the last one (`glmae finetune --from`); `asis` and
`scratch` are the pre-trained and the random backbone as trained before there was an instant model, by the engine in
CHECKOUT (`git worktree add CHECKOUT 29d0182`). Rows go to benchmarks/results/start.json at once; what is there already
is not run again. With --tuning scans of the pool are scored instead of test scans: by these everything was chosen.
With --coarse the other arms see scans of 96^3 and crops of 48^3 voxels: two fifths of the time.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from data_set import DataSet, find_data_sets
from few_label import validation
from machine import describe_machine, use
from results_file import ResultsFile, markdown, mean_of_sets, seeds_and_mean

from glmae.errors import GLMAEError, RequestError

ROOT = Path(__file__).resolve().parent.parent
RESULTS = Path(__file__).resolve().parent / "results" / "start.json"
KEY = ("set", "labels", "seed", "steps", "arm", "scans", "coarse")
BEFORE = ("asis", "scratch")
# Longest sides of scans and crops, cubed. The names before the instant model stand second.
COARSE, GPU = (96, 48), (192, 96)
WITH_SIDES = """import sys
from glmae.cli import main
try:
    from glmae.segmentation.finetune_config import CROP_VOXELS, SCAN_VOXELS
except ImportError:
    from glmae.segmentation.configuration import PATCH_VOXELS as CROP_VOXELS, SCAN_VOXELS
SCAN_VOXELS["cpu"], CROP_VOXELS["cpu"] = int(sys.argv.pop(1)) ** 3, int(sys.argv.pop(1)) ** 3
sys.exit(main())"""
ARMS: dict[str, tuple[str, ...]] = {
    "new": (),
    "new_high": ("--setting", "gentle=[1, 1, 1]"),
    "low": ("--setting", "start_steps=0", "--setting", "fits=0", "--setting", "keep=0"),
    "scratch_new": ("--backbone", "none"),
    "from": (),
    "gpu_plan": (),
    "asis": ("--setting", "validation=0"),
    "scratch": ("--setting", "validation=0", "--backbone", "none"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """0: every row is there; 1: some failed, each named; 2: the request is wrong."""
    options = _parser().parse_args(arguments)
    try:
        if options.table:
            print(table(ResultsFile(options.out, KEY).rows))
            return 0
        if options.data is None:
            raise RequestError("name the folder of the sets with --data")
        if options.tuning and options.out == RESULTS:
            raise RequestError("rows of --tuning are no results; name another file with --out")
        if options.before is None and set(options.arms) & set(BEFORE):
            raise RequestError("asis and scratch need --before: a checkout of the engine before the instant model")
        sets = find_data_sets(options.data, options.sets)
        results = ResultsFile(options.out, KEY)
    except GLMAEError as error:
        print(error, file=sys.stderr)
        return error.exit_status
    use(options.threads, ())
    failed = 0
    for data, row in _planned(sets, options):
        test = validation(data, row["seed"], row["labels"]) if options.tuning else data.test(row["seed"])
        test = test[: options.scans or None]
        row |= {"scans": len(test), "device": "cpu", "threads": options.threads, "coarse": options.coarse}
        if not test or row in results:
            continue
        try:
            row |= run(data, row, test, options.before, options.setting)
        except GLMAEError as error:
            print(f"{row}: {error}", file=sys.stderr)
            failed += 1
            continue
        results.add(row, describe_machine("cpu"))
        print(" ".join(str(row[name]) for name in KEY), f"{row['dice']:.3f}", flush=True)
    return 1 if failed else 0


def run(
    data: DataSet, row: dict[str, Any], test: Sequence[str], before: Path | None, settings: Sequence[str] = ()
) -> dict[str, Any]:
    """Train, segment and score one row in processes of their own: `dice`, `per_case`.

    Raises:
        GLMAEError: a command failed; with what it said.
    """
    labeled = data.labeled(row["seed"], row["labels"])
    assert labeled is not None
    old = row["arm"] in BEFORE
    extra = [word for setting in settings for word in ("--setting", setting)]
    with tempfile.TemporaryDirectory() as work:
        model, found, report = Path(work) / "model", Path(work) / "found", Path(work) / "report.json"
        first = Path(work) / "first"
        images, labels = ["--images", str(data.images)], ["--labels", str(data.labels)]
        length = ["--steps", str(row["steps"]), "--seed", str(row["seed"])]
        command, begin = ["finetune", *images, *labels, *length, *(() if old else extra), *ARMS[row["arm"]]], []
        if row["arm"] == "from":
            _glmae([*command, "--cases", *labeled[:-1], "--out", str(first)], ROOT, row)
            begin = ["--from", str(first)]
        _glmae([*command, *begin, "--cases", *labeled, "--out", str(model)], before if old else ROOT, row)
        scans = [str(data.image(name)) for name in test]
        segment = ["segment", "--model", str(model), "--images", *scans, "--out", str(found), "--format", "nii.gz"]
        _glmae(segment, before if old else ROOT, row)
        _glmae(["evaluate", "--predictions", str(found), *labels, "--out", str(report)], ROOT, row)
        content = json.loads(report.read_text(encoding="utf-8"))
    per_case: dict[str, list[float]] = {}
    for entry in content["cases"]:
        if entry["dice"] is not None:
            per_case.setdefault(entry["case"], []).append(entry["dice"])
    means = [sum(values) / len(values) for _, values in sorted(per_case.items())]
    return {"dice": round(sum(means) / len(means), 4), "per_case": [round(value, 4) for value in means]}


def _glmae(words: Sequence[str], root: Path | None, row: Mapping[str, Any]) -> None:
    environment = os.environ | {"PYTHONPATH": str(Path(root or ROOT) / "GLMAESegmentation")}
    environment |= {"OMP_NUM_THREADS": str(row["threads"])}
    sides = GPU if row["arm"] == "gpu_plan" else COARSE if row["coarse"] else ()
    command = [sys.executable, *(("-c", WITH_SIDES, *map(str, sides)) if sides else ("-m", "glmae")), *words]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, encoding="utf-8", errors="replace")
    if ended.returncode:
        raise GLMAEError(f"glmae {words[0]} ended with {ended.returncode}: {(ended.stderr or ended.stdout)[-500:]}")


def _planned(sets: Sequence[DataSet], options: argparse.Namespace) -> Iterator[tuple[DataSet, dict[str, Any]]]:
    """The rows, in an order that keeps a partial grid balanced."""
    for seed in options.seeds:
        for labels in options.labels:
            for data in sets:
                for steps in options.steps:
                    for arm in options.arms:
                        # Before the first step there is one way only, from either backbone; an earlier model has
                        # seen at least one label.
                        some = (steps or arm in ("new", "scratch_new", "gpu_plan")) and (labels > 1 or arm != "from")
                        if data.labeled(seed, labels) and some:
                            yield data, {"set": data.name, "labels": labels, "seed": seed, "steps": steps, "arm": arm}


def table(rows: Sequence[dict[str, Any]]) -> str:
    """In Markdown the Dice of each seed, mean and standard deviation, and below them the means over the sets."""
    ways = sorted({(row["steps"], list(ARMS).index(row["arm"])) for row in rows})
    cells: dict[tuple[Any, ...], dict[tuple[int, int], list[dict[str, Any]]]] = {}
    for row in sorted(rows, key=lambda row: row["seed"]):
        way = row["steps"], list(ARMS).index(row["arm"])
        for name in (f"{row['set']}, {row['scans']} scans", "mean"):
            cells.setdefault((row["labels"], name == "mean", name), {}).setdefault(way, []).append(row)
    lines = []
    for (labels, over_sets, name), found in sorted(cells.items()):
        each = [found.get(way, []) for way in ways]
        shown = [mean_of_sets(rows) if over_sets else seeds_and_mean([row["dice"] for row in rows]) for rows in each]
        lines.append([name, str(labels), *shown])
    return markdown(["set", "labels", *(f"{list(ARMS)[arm]}, {steps} steps" for steps, arm in ways)], lines)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, metavar="DIR")
    parser.add_argument("--table", action="store_true", help="print the rows that are there, and run nothing")
    parser.add_argument("--sets", nargs="+", metavar="SET")
    parser.add_argument("--labels", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--steps", nargs="+", type=int, default=[0, 120])
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=["new", "new_high", "scratch_new"])
    parser.add_argument("--before", type=Path, metavar="CHECKOUT")
    parser.add_argument("--scans", type=int, default=0, help="score on the first scans only (default: all)")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--coarse", action="store_true", help="fewer, larger voxels in all arms")
    parser.add_argument("--tuning", action="store_true", help="score on scans of the pool")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--setting", action="append", default=[], metavar="NAME=VALUE", help="of glmae finetune")
    return parser


if __name__ == "__main__":
    sys.exit(main())
