"""Preparing scans for pre-training: killed in the middle, and with many scans in little memory."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from sample_scans import FOLDER

from glmae.scans.cases import find_images
from glmae.scans.normalization import Normalization
from glmae.scans.preparation import Preparation
from glmae.scans.store import ScanStore

HERE = Path(__file__).parent
SIDE, FEW, MANY = 96, 4, 34


def child(script, *arguments):
    engine = str(HERE.parents[2] / "GLMAESegmentation")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([engine, str(HERE)]), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(HERE / script), *map(str, arguments)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    return subprocess.Popen(command, env=environment, encoding="utf-8", **pipes)


def test_what_was_prepared_before_a_kill_stays(tmp_path):
    store = tmp_path / "store"
    with child("prepare_child.py", FOLDER, store) as process:
        for line in process.stdout:
            event = json.loads(line)
            if event["event"] == "progress" and event["done"] >= 3:
                break
        process.kill()
    cases = find_images([FOLDER])
    done = {path.name: path.stat().st_mtime_ns for path in store.glob("[!.]*.json")}
    assert 3 <= len(done) < len(cases)
    for name in done:
        assert np.isfinite(np.load(store / name.replace(".json", ".npy"))).all(), "it is whole"

    prepared = ScanStore.prepare(store, cases, Preparation((1.0, 1.0, 1.0), (Normalization("zscore"),)))
    assert len(prepared) == len(cases)
    assert all((store / name).stat().st_mtime_ns == written for name, written in done.items())


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not tell the peak this way")
def test_memory_does_not_grow_with_the_number_of_scans(tmp_path):
    """Thirty more scans are 53 MB as float16; at most two are worked on at once."""
    values = np.random.default_rng(0).normal(0, 300, (SIDE,) * 3).astype(np.int16)
    counts = (FEW, MANY)
    for count in counts:
        images = tmp_path / f"{count} scans"
        images.mkdir()
        sitk.WriteImage(sitk.GetImageFromArray(values), str(images / "scan_00.mha"))
        for number in range(1, count):
            os.link(images / "scan_00.mha", images / f"scan_{number:02d}.mha")
    with child("memory_child.py", tmp_path, *counts) as process:
        peaks = json.loads(process.stdout.read())
    assert peaks[1] - peaks[0] < 25, peaks
