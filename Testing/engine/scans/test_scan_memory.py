"""What a scan takes, told from headers alone: nothing here is read or made in full."""

from __future__ import annotations

import pytest

from glmae.errors import ScanError
from glmae.scans.geometry import Geometry
from glmae.scans.memory import check_memory, memory_needed
from glmae.scans.normalization import Normalization
from glmae.scans.preparation import Preparation

MILLIMETER = Preparation((1.0, 1.0, 1.0), (Normalization("zscore"),))


def micro_ct(folder):
    """A header of 1500^3 voxels, and a file of that length with nothing in it."""
    with (folder / "bone.raw").open("wb") as file:
        file.truncate(1500**3 * 2)
    path = folder / "bone.mhd"
    path.write_text(
        "ObjectType = Image\nNDims = 3\nDimSize = 1500 1500 1500\nElementSpacing = 0.1 0.1 0.1\n"
        "ElementType = MET_USHORT\nElementDataFile = bone.raw\n",
        encoding="utf-8",
    )
    return path


def test_a_micro_ct_is_refused_with_an_estimate(folder, monkeypatch, said):
    path = micro_ct(folder)
    monkeypatch.setattr("glmae.scans.memory.free_ram", lambda: 8_000_000_000)
    with pytest.raises(ScanError, match=r"1500x1500x1500 voxels of 0\.1x0\.1x0\.1 mm need about 25 GB") as caught:
        check_memory("bone", [path], MILLIMETER, 5, 64)
    assert "8 GB are free" in said(caught, "bone")
    monkeypatch.setattr("glmae.scans.memory.free_ram", lambda: 64_000_000_000)
    check_memory("bone", [path], MILLIMETER, 5, 64)


def test_a_container_may_use_less_than_the_computer_has(folder, samples, monkeypatch):
    scan = [samples / "images" / "hippocampus_003.nii.gz"]
    check_memory("a", scan, MILLIMETER, 2, 64)
    for name, text in (("memory.max", "3000000000\n"), ("memory.current", "2500000000\n"), ("memory.stat", "anon 5\n")):
        (folder / name).write_text(text, encoding="utf-8")
    monkeypatch.setattr("glmae.ram._GROUP", folder)
    with pytest.raises(ScanError, match="need about 2 GB of memory and 0 GB are free"):
        check_memory("a", scan, MILLIMETER, 2, 64)


def test_a_whole_ct_takes_what_the_project_promises():
    """512 x 512 x 600 within 6 GB, with 50 classes, too."""
    needed = memory_needed(
        Geometry((512, 512, 600), (0.8, 0.8, 1.0)), [2], Preparation((1.5, 1.5, 1.5), MILLIMETER.normalization), 50, 96
    )
    assert 2e9 < needed < 6e9


def test_more_channels_take_more(samples):
    path = samples / "images" / "hippocampus_003.nii.gz"
    check_memory("a", [path], MILLIMETER, 2, 64)
    grid = Geometry((300, 300, 300), (1.0, 1.0, 1.0))
    one = memory_needed(grid, [2], MILLIMETER, 2, 64)
    assert memory_needed(grid, [2, 4], MILLIMETER, 2, 64) > one + 300**3 * 4
