"""Ways to fit the head of the instant model, without a step of training, on scans of the pool.

    python benchmarks/head.py --data DIR [--sets ...] [--labels 1 2 4] [--seeds 0 1 2] [--scans 8] [--coarse]
                              [--settings '{"start_crops": 0}' '{"start_crops": 16}' ...] [--backbone none] [--out FILE]

Each of the settings (fields of `FinetuneConfig`, as JSON) gives a row; {} is the default. The maps of the scans are
made once for all of them, so that a row takes seconds. Dice is that of results on the scans' own grids, with location
prior, fusion and largest parts. By these rows the fit was chosen: scans for testing are not looked at.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
import torch
from data_set import DataSet, find_data_sets
from few_label import validation
from machine import describe_machine
from results_file import ResultsFile

from glmae.errors import GLMAEError
from glmae.events import silent
from glmae.scans.cases import find_cases
from glmae.scans.fingerprint import gather
from glmae.scans.geometry import Geometry
from glmae.scans.lasting_plan import lasting_plan
from glmae.scans.measurement import measure_each
from glmae.scans.store import ScanStore
from glmae.segmentation.finetune_config import CROP_VOXELS, SCAN_VOXELS
from glmae.segmentation.inference import classify_scan
from glmae.segmentation.instant_start import plan_start, starting_backbone, told
from glmae.segmentation.map_store import MapMaker, MapStore

CPU = torch.device("cpu")
COARSE_SCAN, COARSE_CROP = 96**3, 48**3
KEY = ("set", "labels", "seed", "settings", "backbone", "coarse", "scans")


def main(arguments: Sequence[str] | None = None) -> int:
    """0: every row is there; 2: the request is wrong."""
    options = _parser().parse_args(arguments)
    torch.set_num_threads(options.threads)
    if options.coarse:
        CROP_VOXELS["cpu"] = COARSE_CROP
    try:
        sets, results = find_data_sets(options.data, options.sets), ResultsFile(options.out, KEY)
        for seed in options.seeds:
            for data in sets:
                for labels in options.labels:
                    if data.labeled(seed, labels):
                        _rows(data, seed, labels, options, results)
    except GLMAEError as error:
        print(error, file=sys.stderr)
        return error.exit_status
    return 0


def _rows(data: DataSet, seed: int, labels: int, options: argparse.Namespace, results: ResultsFile) -> None:
    names = list(data.labeled(seed, labels) or ())
    others = validation(data, seed, labels)[: options.scans]
    where = {"set": data.name, "labels": labels, "seed": seed, "backbone": options.backbone, "scans": len(others)}
    where |= {"coarse": options.coarse, "device": "cpu", "threads": options.threads}
    wanted = [where | {"settings": settings} for settings in options.settings]
    if not others or all(row in results for row in wanted):
        return
    with tempfile.TemporaryDirectory() as folder:
        study = _Study(data, names, others, options, Path(folder))
        for row in wanted:
            if row not in results:
                results.add(row | study.score(row["settings"]), describe_machine("cpu"))
                print(" ".join(str(row[name]) for name in KEY), f"{results.rows[-1]['dice']:.3f}", flush=True)


class _Study:
    """The prepared scans of one set, and their maps."""

    def __init__(
        self, data: DataSet, names: list[str], others: Sequence[str], options: argparse.Namespace, folder: Path
    ) -> None:
        self._data, self._folder, self._maps = data, folder, MapStore(folder)
        self._backbone = starting_backbone(options.backbone)
        cases, self._table = find_cases(data.images, data.labels, names)
        each = measure_each(cases, self._table)
        self._plan = lasting_plan(each, self._table, COARSE_SCAN if options.coarse else SCAN_VOXELS["cpu"], names)
        self._fingerprint = gather(each, self._table)
        self._store = ScanStore.prepare(folder, cases, self._plan.preparation, self._table)
        self._others = find_cases(data.images, data.labels, list(others))[0]

    def score(self, settings: dict[str, Any]) -> dict[str, Any]:
        """`dice`, `per_case`, `own_dice` and the `seconds` of the fit, with the maps of what is fitted to."""
        preparation, store, maps = self._plan.preparation, self._store, self._maps
        start = plan_start(self._backbone, store, self._plan, self._table, maps, CPU, settings)
        began, every = time.monotonic(), range(len(store))
        network = start.fit(every)
        seconds = time.monotonic() - began
        model = start.model(network, self._table, self._fingerprint)
        maker = MapMaker(start.config.crop, preparation.normalization, maps, CPU)
        per_case = []
        for case in self._others:
            scan = ScanStore.prepare(self._folder, [case], preparation, None)
            found = maker.find(network, scan.key(0))
            if found is None:
                found = told(maker.make(network, scan.key(0), scan.image(0)), silent(), case.name, lambda: None)
            assert case.label is not None
            label = sitk.ReadImage(str(case.label))
            result = classify_scan(model, found, scan.image(0), scan.grid(0), Geometry.of(label), CPU)
            drawn, truth = (sitk.GetArrayViewFromImage(image) for image in (result.labels, label))
            pairs = [(drawn == value, truth == value) for value in self._table.values]
            per_case.append(float(np.mean([2 * (a & b).sum() / (a.sum() + b.sum()) for a, b in pairs if b.any()])))
        own = start.own_dice(network, every, lambda: None)
        scores = {"dice": float(np.mean(per_case)), "own_dice": own, "seconds": seconds}
        return {name: round(value, 4) for name, value in scores.items()} | {"per_case": np.round(per_case, 4).tolist()}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, metavar="DIR")
    parser.add_argument("--sets", nargs="+", metavar="SET")
    parser.add_argument("--labels", nargs="+", type=int, default=[1, 2, 4])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--scans", type=int, default=8, help="score on so many scans")
    parser.add_argument("--settings", nargs="+", type=json.loads, default=[{}], metavar="JSON")
    parser.add_argument("--backbone", metavar="NAME", help="none: a random one")
    parser.add_argument("--coarse", action="store_true", help="fewer, larger voxels, as in start.py")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True, metavar="FILE")
    return parser


if __name__ == "__main__":
    sys.exit(main())
