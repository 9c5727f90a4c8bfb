"""How busy pre-training keeps the hardware: volumes a second, MFU, and the ratio to a plain build on MONAI's network.

    python benchmarks/pretrain.py --work DIR [--preset base] [--device cuda] [--volumes 40] [--side 320]

Both read the same int16 volumes, made in DIR, loading included; ours through its store, prepared beforehand. Each is
measured with several batches, and the best one counts. MFU: counted operations (operations.py) a second over the best
matrix product of this machine, measured in the same run. Rows go to benchmarks/results/pretrain.json; what is there
already is not run again.

Methods: `glmae`, ours; `plain`, the same work on MONAI's MaskedAutoEncoderViT (plain_pretraining.py), a volume loaded
and normalized for each sample; `plain_mapped`, that with memory-mapped volumes, so that networks alone are compared;
`plain_mae`, that without teacher and consistency, which is less work.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import operations
import torch
from machine import describe_machine
from made_volumes import make_volumes
from plain_pretraining import PlainTraining
from results_file import ResultsFile

from glmae.devices import choose_device, precision
from glmae.errors import GLMAEError, Stopped
from glmae.pretraining.configuration import LossWeights, PretrainConfig, pretrain_config
from glmae.pretraining.pretrain import pretrain
from glmae.scans.case import Case
from glmae.scans.normalization import Normalization
from glmae.scans.preparation import Preparation
from glmae.scans.store import ScanStore

RESULTS = Path(__file__).resolve().parent / "results" / "pretrain.json"
KEY = ("device", "preset", "views", "precision", "method", "volumes", "side", "threads")
METHODS = ("plain", "plain_mapped", "plain_mae", "glmae")
WARM_UP_STEPS = 3


class Stopwatch:
    """Asked after each step; counts steps and seconds after the warm-up, and says when it has seen enough."""

    def __init__(self, device: torch.device, seconds: float, warm_up: int) -> None:
        self.device, self.seconds, self.warm_up = device, seconds, warm_up
        self.steps, self.spent, self._began = -warm_up, 0.0, 0.0

    def __call__(self) -> bool:
        self.steps += 1
        if self.steps < 0:
            return False
        # On a GPU only these two moments wait for it.
        if self.steps == 0:
            self._wait()
            self._began = time.monotonic()
        self.spent = time.monotonic() - self._began
        if self.steps < 2 or self.spent < self.seconds:
            return False
        self._wait()
        self.spent = time.monotonic() - self._began
        return True

    @property
    def rate(self) -> float:
        return self.steps / self.spent

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()


def main(arguments: Sequence[str] | None = None) -> int:
    """0: every row is there; 2: the request is wrong."""
    options = _parser().parse_args(arguments)
    try:
        device, _ = choose_device(options.device)
        results = ResultsFile(options.out, KEY)
        _measure(options, device, results)
    except GLMAEError as error:
        print(error, file=sys.stderr)
        return error.exit_status
    return 0


def _measure(options: argparse.Namespace, device: torch.device, results: ResultsFile) -> None:
    config = pretrain_config(options.preset, weights=LossWeights())  # the four terms that a plain build has, too
    backbone = config.backbone
    row: dict[str, Any] = {
        "device": device.type,
        "preset": options.preset,
        "views": f"{config.global_views}x{backbone.global_view}+{config.local_views}x{backbone.local_view}",
        "precision": str(precision(device)).removeprefix("torch."),
        "volumes": options.volumes,
        "side": options.side,
        "threads": torch.get_num_threads(),
    }
    todo = [method for method in options.methods if row | {"method": method} not in results]
    if todo:
        paths = make_volumes(options.work / "volumes", options.volumes, options.side)
        peak = matrix_product_peak(device)
        print(f"best matrix product: {peak / 1e9:.0f} GFLOP/s", flush=True)
    for method in todo:
        best: dict[str, Any] = {}
        for batch in options.batches:
            chosen = replace(config, batch=batch)
            if method == "plain_mae":
                chosen = replace(chosen, weights=replace(config.weights, global_global=0.0, global_local=0.0))
            try:
                measure = ours if method == "glmae" else plain
                rate = measure(method, chosen, paths, device, options) * batch
            except torch.OutOfMemoryError:
                print(f"{method}, batch {batch}: does not fit", flush=True)
                break
            print(f"{method}, batch {batch}: {rate:.3f} volumes/s", flush=True)
            if rate > best.get("volumes_per_second", 0.0):
                mfu = rate * operations.volume(chosen) / peak
                best = {"volumes_per_second": round(rate, 4), "mfu": round(mfu, 4), "batch": batch}
        if best:
            more = {"method": method, "peak_gflops": round(peak / 1e9, 1)}
            results.add(row | more | best, describe_machine(device.type))
    _print_ratios(results, row)


def _print_ratios(results: ResultsFile, row: dict[str, Any]) -> None:
    found = {one["method"]: one for one in results.rows if all(one.get(name) == row.get(name) for name in row)}
    for method, one in found.items():
        ratio = found["glmae"]["volumes_per_second"] / one["volumes_per_second"] if "glmae" in found else float("nan")
        print(
            f"{method:12s} {one['volumes_per_second']:9.3f} volumes/s   MFU {one['mfu']:6.1%}   batch {one['batch']:3d}"
            f"   glmae is {ratio:.2f} times as fast"
        )


def ours(
    method: str, config: PretrainConfig, paths: Sequence[Path], device: torch.device, options: argparse.Namespace
) -> float:
    """Steps a second of the job itself: its store, its reading ahead, its steps."""
    cases = [Case(path.stem, (path,)) for path in paths]
    plan = Preparation((1.0, 1.0, 1.0), (Normalization("zscore"),))
    store = ScanStore.prepare(options.work / "store", cases, plan)
    out = options.work / "run"
    shutil.rmtree(out, ignore_errors=True)
    watch = Stopwatch(device, options.seconds, options.warm_up)
    try:
        pretrain(config, store, out, steps=100_000, device=device.type, should_stop=watch)
    except Stopped:
        pass
    finally:
        shutil.rmtree(out, ignore_errors=True)
    return watch.rate


def plain(
    method: str, config: PretrainConfig, paths: Sequence[Path], device: torch.device, options: argparse.Namespace
) -> float:
    """Steps a second of the plain build; workers as many as there are cores beside the one that trains."""
    workers = max(0, min(8, (os.cpu_count() or 1) - 1)) if options.workers is None else options.workers
    training = PlainTraining(config, paths, device, workers, config.uses_teacher, mapped=method != "plain")
    watch = Stopwatch(device, options.seconds, options.warm_up)
    training.step()
    while not watch():
        training.step()
    return watch.rate


def matrix_product_peak(device: torch.device) -> float:
    """FLOP/s of the best of some square matrix products in the precision of training."""
    best = 0.0
    for side in (4096, 8192, 16384) if device.type == "cuda" else (1024, 2048):
        left, right = (torch.randn(side, side, device=device).to(precision(device)) for _ in range(2))
        for _ in range(5):
            repeats = 20 if device.type == "cuda" else 2
            began = _now(device)
            for _ in range(repeats):
                left @ right
            best = max(best, 2 * side**3 * repeats / (_now(device) - began))
    return best


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Measure the speed of pre-training.")
    parser.add_argument("--work", type=Path, required=True, metavar="DIR", help="for volumes and store (6 GB), kept")
    parser.add_argument("--preset", choices=("tiny", "small", "base"), default="base")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda", "mps"), default="auto")
    parser.add_argument("--volumes", type=int, default=40, metavar="N")
    parser.add_argument("--side", type=int, default=320, metavar="VOXELS")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS), metavar="NAME")
    parser.add_argument("--batches", nargs="+", type=int, default=[4, 8, 16, 32], metavar="B")
    parser.add_argument("--seconds", type=float, default=30.0, metavar="S", help="measured for each batch")
    parser.add_argument("--warm-up", type=int, default=WARM_UP_STEPS, metavar="STEPS")
    parser.add_argument("--workers", type=int, metavar="N", help="of the plain build (default: cores - 1, at most 8)")
    parser.add_argument("--out", type=Path, default=RESULTS, metavar="FILE", help="default: %(default)s")
    return parser


if __name__ == "__main__":
    sys.exit(main())
