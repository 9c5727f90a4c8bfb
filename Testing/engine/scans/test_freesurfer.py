"""FreeSurfer's volumes, written here by the page of its wiki: an oblique scan and its label come back in place."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from glmae.errors import ScanError
from glmae.scans.cases import find_cases
from glmae.scans.image import load, read_image
from glmae.scans.labels import read_label

TYPES = {"uint8": 0, "int32": 1, "float32": 3, "int16": 4, "uint16": 10}


def write_mgh(path: Path, image: sitk.Image, frames: int = 1, placed: int = 1, cut: int = 0) -> None:
    voxels = sitk.GetArrayFromImage(image)
    center = image.TransformContinuousIndexToPhysicalPoint([n / 2 for n in image.GetSize()])
    axes = np.diag([-1, -1, 1]) @ np.array(image.GetDirection()).reshape(3, 3)
    header = struct.pack(">7i", 1, *image.GetSize(), frames, TYPES[voxels.dtype.name], 0) + struct.pack(">h", placed)
    header += struct.pack(">15f", *image.GetSpacing(), *axes.T.ravel(), -center[0], -center[1], center[2])
    content = header.ljust(284, b"\0") + voxels.astype(voxels.dtype.newbyteorder(">")).tobytes()
    content = content[: len(content) - cut] + b"" if cut else content + b"\0" * 40
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(content) if path.suffix.lower() == ".mgz" else content)


@pytest.fixture
def oblique(scan):
    image = sitk.Image(scan)
    image.SetDirection(sitk.VersorTransform((1.0, 0.2, 0.0), 0.3).GetMatrix())
    image.SetSpacing((0.7, 0.9, 2.5))
    return image


@pytest.mark.parametrize("name", ["norm.mgz", "norm.mgh", "NORM.MGZ"])
@pytest.mark.parametrize("kind", TYPES)
def test_voxels_and_place(folder, oblique, name, kind):
    image = sitk.GetImageFromArray(sitk.GetArrayFromImage(oblique).astype(kind))
    image.CopyInformation(oblique)
    write_mgh(folder / name, image)
    read = load(folder / name)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(read), sitk.GetArrayFromImage(image))
    assert read.GetSpacing() == pytest.approx(image.GetSpacing(), abs=1e-5)
    assert read.GetOrigin() == pytest.approx(image.GetOrigin(), abs=1e-3)
    assert read.GetDirection() == pytest.approx(image.GetDirection(), abs=1e-5)


def test_a_case_of_freesurfer(folder, oblique, label):
    drawn = sitk.Cast(label, sitk.sitkInt32) * 1000
    drawn.CopyInformation(oblique)
    write_mgh(folder / "images" / "p1.mgz", sitk.Cast(oblique, sitk.sitkFloat32))
    write_mgh(folder / "labels" / "p1.mgz", drawn)
    (case,), table = find_cases(folder / "images", folder / "labels")
    assert table.values == (1000, 2000)
    numbers = read_label(case, read_image(case.images[0]), table)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(numbers), sitk.GetArrayFromImage(label))


@pytest.mark.parametrize(
    ("options", "reason"),
    [({"cut": 5}, "incomplete"), ({"frames": 3}, "3 volumes"), ({"placed": 0}, "does not say where it lies")],
)
def test_what_is_refused(folder, oblique, said, options, reason):
    write_mgh(folder / "a.mgz", sitk.Cast(oblique, sitk.sitkInt16), **options)
    with pytest.raises(ScanError, match=reason) as caught:
        load(folder / "a.mgz")
    said(caught, folder / "a.mgz")


@pytest.mark.parametrize(
    "content", [b"", b"text", b"\x1f\x8b broken", gzip.compress(b"x" * 400, mtime=0)[:-9], b"y" * 400]
)
def test_other_content(folder, said, content):
    (folder / "a.mgz").write_bytes(content)
    with pytest.raises(ScanError) as caught:
        load(folder / "a.mgz")
    said(caught, folder / "a.mgz")
