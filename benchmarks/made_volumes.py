"""int16 volumes for benchmarks of speed: smooth shapes with noise, in MetaImage files with their voxels raw beside."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK as sitk

COARSE = 16


def make_volumes(folder: Path, count: int, side: int) -> list[Path]:
    """`count` volumes of side^3 voxels of 1 mm; those that are there already are kept."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"volume_{side}_{number:02d}.mhd" for number in range(count)]
    for number, path in enumerate(paths):
        if not path.exists():
            _make(path, side, np.random.default_rng(number))
    return paths


def voxels(path: Path) -> np.ndarray:
    """Memory-mapped, int16 [K, J, I]."""
    side = int(path.stem.split("_")[1])
    return np.memmap(path.with_suffix(".raw"), dtype=np.int16, mode="r", shape=(side, side, side))


def _make(path: Path, side: int, random: np.random.Generator) -> None:
    coarse = sitk.GetImageFromArray(random.normal(0, 600, (COARSE,) * 3).astype(np.float32))
    coarse.SetSpacing((side / COARSE,) * 3)
    smooth = sitk.Resample(coarse, (side,) * 3, sitk.Transform(), sitk.sitkLinear, (0.0,) * 3, (1.0,) * 3)
    values = sitk.GetArrayViewFromImage(smooth) + random.normal(0, 30, (side,) * 3).astype(np.float32)
    temporary = path.with_name(f"writing_{path.name}")
    sitk.WriteImage(sitk.GetImageFromArray(np.rint(values).astype(np.int16)), str(temporary))
    temporary.with_suffix(".raw").replace(path.with_suffix(".raw"))
    text = temporary.read_text(encoding="utf-8").replace(
        temporary.with_suffix(".raw").name, path.with_suffix(".raw").name
    )
    path.write_text(text, encoding="utf-8")
    temporary.unlink()
