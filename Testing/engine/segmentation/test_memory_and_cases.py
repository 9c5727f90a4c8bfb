"""Memory does not grow with the number of labelled scans: measured in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

SIDE = 96
MEGABYTE = 2**20

CHILD = """
import json, sys
from pathlib import Path
import psutil
from glmae.scans.geometry import Geometry
from glmae.scans.normalisation import Normalisation
from glmae.scans.preparation import Preparation
from glmae.scans.store import ScanStore
from glmae.segmentation.configuration import FinetuneConfig
from glmae.segmentation.crops import CropSampler
from glmae.segmentation.finetuning import _labelled_scans

folder = Path(sys.argv[1])
keys = sorted(path.name.split(".")[0] for path in folder.glob("*.image.npy"))[: int(sys.argv[2])]
store = ScanStore(folder, [{"key": key, "label": True, "annotated": [True]} for key in keys])
scans = _labelled_scans(store, Preparation((1.0, 1.0, 1.0), (Normalisation("zscore"),)))
sampler = CropSampler(scans, (32, 32, 32), 1, 0.67, None, 0)
highest = 0
for step in range(48):
    sampler.batch(step)
    highest = max(highest, psutil.Process().memory_info().rss)
print(json.dumps(highest))
"""


def highest(folder: Path, scans: int) -> int:
    """Bytes of RAM, mapped files included, of a process that draws crops from so many scans."""
    command = [sys.executable, "-c", CHILD, str(folder), str(scans)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=True, env=environment)
    return int(json.loads(done.stdout))


def test_memory_does_not_grow_with_the_number_of_scans(tmp_path):
    label = np.zeros((SIDE, SIDE, SIDE), np.uint8)
    label[20:60, 30:70, 10:80] = 1
    for number in range(32):
        np.save(tmp_path / f"{number:02d}.image.npy", np.ones((1, SIDE, SIDE, SIDE), np.float16))
        np.save(tmp_path / f"{number:02d}.label.npy", label)
    few, many = highest(tmp_path, 4), highest(tmp_path, 32)
    assert many - few < 20 * MEGABYTE, "28 more scans of 2.5 MB each"
