"""Measure, prepare and pre-train on the scans in a folder, and say how much memory that took: SCANS OUT STEPS."""

import os
import resource
import sys
from pathlib import Path

import torch
from sample_scans import small_config

from glmae.pretraining.job import pretrain
from glmae.scans.cases import find_images
from glmae.scans.classes import ClassTable
from glmae.scans.fingerprint import measure
from glmae.scans.preparation import plan_preparation
from glmae.scans.store import ScanStore

if __name__ == "__main__":
    torch.set_num_threads(1)
    os.cpu_count = lambda: 2  # more threads work on more scans at once, wherever the test runs
    images, out, steps = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    cases = find_images([images])
    store = ScanStore.prepare(out / "store", cases, plan_preparation(measure(cases, ClassTable(())), 10**9))
    pretrain(small_config(), store, out / "run", steps=steps, device="cpu")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(len(store), peak / (1 if sys.platform == "darwin" else 1024) / 1e3)
