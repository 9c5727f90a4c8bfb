"""RAM does not grow with the number of labeled scans, and a run needs little: measured in processes of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from glmae.backbone.presets import preset
from glmae.events import silent
from glmae.segmentation import memory_ladder
from glmae.segmentation.finetune_config import CROP_VOXELS, FinetuneConfig
from glmae.segmentation.memory_ladder import MemoryLadder
from glmae.segmentation.network import SegmentationNetwork

SIDE = 96
FURTHER = 18
MEGABYTE = 2**20

CHILD = """
import json, sys
from pathlib import Path
import psutil
from glmae.scans.store import ScanStore
from glmae.segmentation.crops import CropSampler

folder = Path(sys.argv[1])
keys = sorted(path.name.split(".")[0] for path in folder.glob("*.image.npy"))[: int(sys.argv[2])]
store = ScanStore(folder, [{"image": key, "label": key, "annotated": [True]} for key in keys])
scans = store.labeled((1.0, 1.0, 1.0))
sampler = CropSampler(scans, (32, 32, 32), 1, 0.67, None, 0)
highest = 0
for step in range(48):
    sampler.batch(step)
    highest = max(highest, psutil.Process().memory_info().rss)
print(json.dumps(highest))
"""


# From reading the scans to the model folder, with the settings that are planned for a CPU.
RUN = """
import json, os, sys
from pathlib import Path
import psutil
import torch
os.cpu_count = lambda: 2  # more threads work on more scans at once, wherever the test runs
torch.set_num_threads(1)
from glmae.events import recorded
from glmae.segmentation.finetuning import finetune

folder, count = Path(sys.argv[1]), int(sys.argv[2])
names = sorted(path.name.split(".")[0] for path in (folder / "images").iterdir())[:count]
events = []
settings = json.loads(sys.argv[3])
finetune(images=folder / "images", labels=folder / "labels", cases=names, out=folder / f"model of {count}",
         backbone="none", steps=2, device="cpu", settings=settings, events=recorded(events))
estimate = next(event for event in events if event["event"] == "estimate")
if sys.platform == "win32":
    peak = psutil.Process().memory_info().peak_wset
elif sys.platform == "linux":  # getrusage would tell the peak of the process that started this one, if that is larger
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    peak = 1024 * int(status.split("VmHWM:")[1].split()[0])
else:
    import resource
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
print(json.dumps([peak, estimate["memory_bytes"]]))
"""


def child(code: str, *words: object) -> Any:
    """What a process prints, as JSON."""
    command = [sys.executable, "-c", code, *map(str, words)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=True, env=environment)
    return json.loads(done.stdout)


def highest(folder: Path, scans: int) -> int:
    """Bytes of RAM, mapped files included, of a process that draws crops from so many scans."""
    return int(child(CHILD, folder, scans))


def labeled_scans(folder: Path, count: int, side: int) -> None:
    for kind in ("images", "labels"):
        (folder / kind).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number in range(count):
        label = np.zeros((side,) * 3, np.uint8)
        label[4:20, 4:20, 6:20] = 1
        image = 300 * label.astype(np.int16)
        # The rest is empty: it takes as much memory as anything else, but no time of the network, whose windows are
        # small here.
        image[:24, :24, :24] += rng.integers(1, 200, (24, 24, 24), dtype=np.int16)
        for kind, array in (("images", image), ("labels", label)):
            sitk.WriteImage(sitk.GetImageFromArray(array), str(folder / kind / f"scan_{number:02d}.nrrd"))


def test_memory_does_not_grow_with_the_number_of_scans(tmp_path):
    label = np.zeros((SIDE, SIDE, SIDE), np.uint8)
    label[20:60, 30:70, 10:80] = 1
    for number in range(32):
        np.save(tmp_path / f"{number:02d}.image.npy", np.ones((1, SIDE, SIDE, SIDE), np.float16))
        np.save(tmp_path / f"{number:02d}.label.npy", label)
    few, many = highest(tmp_path, 4), highest(tmp_path, 32)
    assert many - few < 20 * MEGABYTE, "28 more scans of 2.5 MB each"


def test_a_whole_run_does_not_take_more_for_more_scans(tmp_path):
    """Reading, checking, measuring, preparing, training, looking at the result.

    The peak of one and the same run varies by some 20 MB, so what the further scans take must be well above that.
    """
    labeled_scans(tmp_path / "scans", 3 + FURTHER, 112)
    counts, few_steps = (3, 3 + FURTHER), '{"crop": [32, 32, 32], "start_steps": 20, "start_crops": 1}'
    (few, _), (many, _) = (child(RUN, tmp_path / "scans", count, few_steps) for count in counts)
    prepared = FURTHER * 112**3 * 3  # float16 and a byte of label
    if many - few >= prepared / 2:  # a busy computer adds to one run; what scans take, they take again
        labeled_scans(tmp_path / "again", counts[1], 112)
        many, _ = child(RUN, tmp_path / "again", counts[1], few_steps)
    assert many - few < prepared / 2


def test_a_run_with_the_planned_settings_stays_far_below_six_gigabytes(tmp_path):
    """What it takes is also what it says beforehand, libraries and the scans in work apart."""
    labeled_scans(tmp_path / "scans", 1, 112)
    peak, estimate = child(RUN, tmp_path / "scans", 1, "{}")
    assert 300 * MEGABYTE < peak < 2.5e9
    assert estimate < 2e9
    assert peak < estimate + 1.2e9


@pytest.mark.parametrize("name", ["tiny", "small"])
def test_small_computers_train_with_the_planned_crops(name, monkeypatch):
    """4 GB that are free of 6 GB of RAM, and 3.3 GB that drivers leave of a GPU's 4 GB, in single precision."""
    monkeypatch.setattr(memory_ladder, "precision", lambda device: torch.float32)
    network = SegmentationNetwork(preset(name), 5)
    for device, free in (("cpu", 4e9), ("cuda", 3.3e9)):
        side = round(CROP_VOXELS[device] ** (1 / 3) / 8) * 8
        ladder = MemoryLadder(FinetuneConfig(crop=(side, side, side)), network.backbone.config.patch_size)
        monkeypatch.setattr(memory_ladder, "free_memory", lambda device, free=free: free)
        ladder.plan(network, torch.device(device), silent())
        assert ladder.level == 0
