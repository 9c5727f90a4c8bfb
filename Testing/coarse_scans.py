"""The bundled scans with fewer voxels along each axis: whole runs on them take a fraction of the time."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import SimpleITK as sitk

SCANS = Path(__file__).resolve().parents[1] / "GLMAESegmentation" / "Resources" / "SampleScans"


def write_coarse_scans(folder: Path, images: Sequence[str], labels: Sequence[str] | None = None, step: int = 3) -> None:
    """Write every `step`-th voxel of `images` and `labels` (None: of all of them), and the names of the classes."""
    for kind, names in (("images", images), ("labels", images if labels is None else labels)):
        (folder / kind).mkdir(parents=True)
        for name in names:
            whole = sitk.ReadImage(str(SCANS / kind / f"{name}.nii.gz"))
            sitk.WriteImage(whole[::step, ::step, ::step], str(folder / kind / f"{name}.nii.gz"))
    shutil.copy(SCANS / "labels" / "classes.json", folder / "labels")
