from __future__ import annotations

import gzip
import struct

import numpy as np
import pytest
import SimpleITK as sitk

from glmae.scans.geometry import Geometry
from glmae.scans.image import read_image
from glmae.scans.nifti import check_nifti, non_finite

# More than one block of reading, and not a multiple of it.
VALUES = np.random.default_rng(0).normal(size=(61, 127, 151)).astype(np.float32)


@pytest.mark.parametrize("name", ["s.nii", "s.nii.gz"])
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_non_finite_voxels_are_found_across_blocks(save, name, kind):
    values = VALUES.astype(kind)
    places = [0, 1, 1_048_487, 1_048_488, 1_048_489, 524_287, values.size - 1]
    values.reshape(-1)[places] = np.nan
    path = save(values, name, compress=name.endswith("gz"))
    check_nifti(path)
    np.testing.assert_array_equal(non_finite(path), sorted(places))


def test_other_byte_order(folder):
    values = VALUES[:8, :9, :10].copy()
    values[1, 2, 3] = np.inf
    fields = bytearray(352)
    struct.pack_into(">i", fields, 0, 348)
    struct.pack_into(">8h", fields, 40, 3, 10, 9, 8, 1, 1, 1, 1)
    struct.pack_into(">2h", fields, 70, 16, 32)
    struct.pack_into(">8f", fields, 76, 1, 1, 1, 1, 0, 0, 0, 0)
    struct.pack_into(">2f", fields, 108, 352, 1)
    fields[344:348] = b"n+1\0"
    path = folder / "big-endian.nii.gz"
    path.write_bytes(gzip.compress(bytes(fields) + values.astype(">f4").tobytes()))
    np.testing.assert_array_equal(non_finite(path), [1 * 90 + 2 * 10 + 3])
    result = sitk.GetArrayFromImage(read_image(path))
    values[1, 2, 3] = values[np.isfinite(values)].min()
    np.testing.assert_array_equal(result, values)


def test_integers_and_real_scans_have_none(save, samples):
    assert not len(non_finite(save((VALUES * 100).astype(np.int16), "s.nii.gz")))
    path = samples / "images" / "hippocampus_003.nii.gz"
    check_nifti(path)
    assert not len(non_finite(path))


def test_other_formats_are_not_looked_at(save, scan, events, heard):
    # Read from NIfTI, it brings the fields of that header along.
    assert scan.HasMetaDataKey("vox_offset")
    values = sitk.GetArrayFromImage(scan).astype(np.float32)
    values[0, 0, 0] = np.nan
    path = save(Geometry.of(scan).image(values), "converted.nrrd")
    assert not len(non_finite(path))
    read_image(path, events)
    assert len(heard) == 1, "the library keeps what is no number"
