"""nnU-Net v2 itself (Isensee et al., Nature Methods 2021): its own planning, preprocessing, training and prediction.

It runs in its own environment (nnunet_environment.py), in a child process, on the data in its own raw format.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
import torch
from nnunet_environment import interpreter
from task import Outcome, Task

from glmae.devices import precision
from glmae.errors import GLMAEError, RequestError
from glmae.files import last_line
from glmae.scans.case import Case
from glmae.scans.cases import find_cases, find_images
from glmae.scans.classes import IGNORE, ClassTable
from glmae.scans.image import read_channels
from glmae.scans.labels import read_label
from glmae.scans.measurement import measure
from glmae.scans.written_image import write_labelmap
from glmae.schedule import minutes_left

JOB = Path(__file__).with_name("nnunet_job.py")
DATA_SET = "Dataset001_FewLabel"


@dataclass(frozen=True, kw_only=True)
class NnunetConfig:
    """What can be tuned of nnU-Net; everything else it decides itself.

    Attributes:
        planner: ExperimentPlanner, or nnUNetPlannerResEncM for its residual encoder.
        memory_gb: what it plans crops and batch for; None: its own 8 on a GPU, and on a CPU 1, because steps of crops
            made for 8 GB take longer there than a run.
        mirror: whether it mirrors crops and test scans; None: as by default, but not where classes are left and right.
    """

    planner: str = "ExperimentPlanner"
    memory_gb: float | None = None
    mirror: bool | None = None


def run(task: Task) -> Outcome:
    """Convert the scans, hand them to nnU-Net, bring its results back to the values of the labels."""
    began = time.monotonic()
    python = interpreter()
    if not python.exists():
        raise RequestError("nnU-Net is not installed; run python benchmarks/nnunet_environment.py, or leave nnunet out")
    config = dataclasses.replace(NnunetConfig(), **task.settings)
    with tempfile.TemporaryDirectory(prefix="nnunet-", ignore_cleanup_errors=True) as folder:
        base = Path(folder)
        cases, table = find_cases(task.data.images, task.data.labels, task.labeled)
        write_raw(base / "raw" / DATA_SET, cases, table)
        test = find_images(task.test_images)
        job = {
            "data_set": str(base / "raw" / DATA_SET),
            "preprocessed": str(base / "preprocessed"),
            "planner": config.planner,
            "memory_gb": config.memory_gb or (None if task.device == "cuda" else 1.0),
            "mirror": not _has_sides(table) if config.mirror is None else config.mirror,
            "device": task.device,
            "seed": task.seed,
            "threads": torch.get_num_threads(),
            "bfloat16": task.device == "cpu" and precision(torch.device("cpu")) == torch.bfloat16,
            "test": [write_images(base / "test", f"scan_{n:03d}", case) for n, case in enumerate(test)],
            "results": str(base / "out"),
            "seconds": 60 * minutes_left(task.minutes, began, reserve=0.0),
        }
        converted = time.monotonic() - began
        outcome = _in_its_environment(python, base, job)
        written = time.monotonic()
        for number, case in enumerate(test):
            _bring_back(base / "out" / f"scan_{number:03d}.nii.gz", task.predictions / f"{case.name}.nii.gz", table)
    return Outcome(
        seconds=converted + outcome["seconds"],
        segment_seconds=outcome["segment_seconds"] + time.monotonic() - written,
        steps=outcome["steps"],
        peak_device_mb=outcome["peak_device_mb"],
    )


def write_raw(folder: Path, cases: Sequence[Case], table: ClassTable) -> None:
    """The training scans in nnU-Net's raw format.

    It has no word for a class that was not drawn in one of the scans: there it takes its voxels for background. Voxels
    of which nothing is known get its label `ignore`.
    """
    channels = measure(cases, table).channels
    ignored = len(table) + 1
    needs_ignore = False
    for number, case in enumerate(cases):
        name = f"case_{number:03d}"
        write_images(folder / "imagesTr", name, case)
        label = read_label(case, read_channels(case.images)[0], table)
        if (sitk.GetArrayViewFromImage(label) == IGNORE).any():
            needs_ignore = True
            label = sitk.ChangeLabel(label, {IGNORE: ignored})
        (folder / "labelsTr").mkdir(parents=True, exist_ok=True)
        sitk.WriteImage(label, str(folder / "labelsTr" / f"{name}.nii.gz"))
    labels = {"background": 0} | {f"class {number}": number for number in range(1, len(table) + 1)}
    content: dict[str, Any] = {
        # Only a channel called CT is not normalized scan by scan.
        "channel_names": {str(n): "CT" if c.modality == "ct" else f"MR {n}" for n, c in enumerate(channels)},
        "labels": labels | ({"ignore": ignored} if needs_ignore else {}),
        "numTraining": len(cases),
        "file_ending": ".nii.gz",
    }
    (folder / "dataset.json").write_text(json.dumps(content), encoding="utf-8")


def write_images(folder: Path, name: str, case: Case) -> list[str]:
    """The channels of a scan as `NAME_0000.nii.gz`, `NAME_0001.nii.gz`, ..., on one grid; returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number, image in enumerate(read_channels(case.images)):
        path = folder / f"{name}_{number:04d}.nii.gz"
        sitk.WriteImage(image, str(path))
        paths.append(str(path))
    return paths


def _in_its_environment(python: Path, base: Path, job: dict[str, Any]) -> dict[str, Any]:
    asked, answer = base / "job.json", base / "outcome.json"
    asked.write_text(json.dumps(job), encoding="utf-8")
    folders = {f"nnUNet_{kind}": str(base / kind) for kind in ("raw", "preprocessed", "results")}
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    environment |= folders | {"nnUNet_compile": "f", "OMP_NUM_THREADS": str(job["threads"])}
    child = subprocess.run(
        [str(python), str(JOB), str(asked), str(answer)],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    if child.returncode or not answer.exists():
        raise GLMAEError(f"nnU-Net failed (exit status {child.returncode}): {last_line(child.stderr)}")
    outcome: dict[str, Any] = json.loads(answer.read_text(encoding="utf-8"))
    return outcome


def _bring_back(result: Path, target: Path, table: ClassTable) -> None:
    image = sitk.ReadImage(str(result))
    lookup = np.array([0, *table.values], dtype=np.uint16)
    labels = sitk.GetImageFromArray(lookup[sitk.GetArrayViewFromImage(image)])
    labels.CopyInformation(image)
    write_labelmap(target, labels, table)


def _has_sides(table: ClassTable) -> bool:
    return any(re.search(r"\b(left|right)\b", name, re.IGNORECASE) for name in table.names)
