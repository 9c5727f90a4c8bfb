"""A scan is judged by voxels of all its parts, whatever the length of its rows."""

import numpy as np
import pytest
import SimpleITK as sitk

from glmae.scans.normalization import Brightness, Normalization, normalize, sampled


def test_rows_as_long_as_the_share_of_voxels_that_is_kept():
    """An MR of 256 x 256 x 196, dark at the sides, in small: every 64th of its voxels is in column 0."""
    across = 200 * np.sin(np.linspace(0, np.pi, 64)) ** 2
    noise = np.random.default_rng(0).normal(0, 5, (98, 64, 64))
    image = sitk.GetImageFromArray((across + np.abs(noise)).astype(np.float32))
    found = Brightness.of(image, 98 * 64)
    voxels = sitk.GetArrayFromImage(image)
    assert len(found.body) == 98 * 64
    assert found.mean == pytest.approx(voxels.mean(), rel=0.03)
    assert found.std == pytest.approx(voxels.std(), rel=0.03)
    assert found.quantiles("ct") == pytest.approx(np.quantile(voxels, (0.1, 0.5, 0.9)), rel=0.1)
    assert np.array_equal(found.body, Brightness.of(image, 98 * 64).body), "the same each time"


def test_each_slice_has_a_say_in_the_scale_of_a_scan():
    """[1, I, J, K]: every second voxel would leave out half of the slices."""
    values = np.random.default_rng(1).normal(100, 20, (1, 160, 200, 32)).astype(np.float32)
    values[..., 1::2] += 200
    normalize(values, Normalization("zscore"))
    assert abs(float(values.mean())) < 0.01
    assert float(values.std()) == pytest.approx(1, abs=0.01)


def test_few_values_are_all_taken():
    values = np.arange(24.0).reshape(2, 3, 4)
    assert np.array_equal(sampled(values, 24), np.arange(24.0))
    assert len(sampled(values, 23)) == 23
