from __future__ import annotations

import gzip
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

import glmae
from glmae.errors import ScanError
from glmae.scans.image import ITK_ENDINGS, image_ending, read_channels, read_image

NOISE = np.random.default_rng(0).integers(0, 1000, (20, 24, 28)).astype(np.int16)


def test_reads_a_real_scan_unchanged(samples, scan):
    image = read_image(samples / "images" / "hippocampus_003.nii.gz")
    assert image.GetSize() == scan.GetSize()
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), sitk.GetArrayFromImage(scan))
    assert not image.GetMetaDataKeys()


@pytest.mark.parametrize("ending", ITK_ENDINGS)
def test_every_format_under_a_difficult_name(save, ending):
    path = save(NOISE, f"Größe скан 像 1.5 mm{ending}", (0.5, 0.5, 5.0), compress=False)
    image = read_image(path)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), NOISE)
    assert image.GetSpacing() == pytest.approx((0.5, 0.5, 5.0))
    assert image.GetPixelID() == sitk.sitkInt16


def test_endings():
    assert image_ending(Path("a.b.NII.GZ")) == ".nii.gz"
    assert image_ending(Path("a.seg.nrrd")) == ".seg.nrrd"
    assert image_ending(Path("notes.txt")) is None


@pytest.mark.parametrize("name", ["s.nii.gz", "s.nii", "s.nrrd", "s.mha"])
def test_truncated(save, said, name):
    path = save(NOISE, name, compress=name.endswith("gz"))
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(ScanError, match=r"incomplete|damaged") as caught:
        read_image(path)
    said(caught, path)


def test_truncated_by_a_single_byte(save, said):
    path = save(NOISE, "s.nii.gz")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ScanError, match="incomplete") as caught:
        read_image(path)
    said(caught, path)


def test_truncated_before_it_was_packed(save, said):
    raw = gzip.decompress(save(NOISE, "s.nii.gz").read_bytes())
    path = save(NOISE, "t.nii.gz")
    path.write_bytes(gzip.compress(raw[:-2]))
    with pytest.raises(ScanError, match="incomplete") as caught:
        read_image(path)
    said(caught, path)


def test_joined_gzip_members_are_whole(save):
    """Some tools pack in blocks; the last four bytes then tell the size of the last block only."""
    raw = gzip.decompress(save(NOISE, "s.nii.gz").read_bytes())
    path = save(NOISE, "blocks.nii.gz")
    path.write_bytes(gzip.compress(raw[:5000]) + gzip.compress(raw[5000:]))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(read_image(path)), NOISE)


def test_damaged_in_the_middle(save, said):
    path = save(NOISE, "s.nii.gz")
    content = bytearray(path.read_bytes())
    for index in range(len(content) // 2, len(content) // 2 + 60):
        content[index] ^= 0x5A
    path.write_bytes(content)
    with pytest.raises(ScanError) as caught:
        read_image(path)
    said(caught, path)


@pytest.mark.parametrize("name", ["notes.nii.gz", "notes.nrrd", "notes.mha", "notes.nii"])
def test_text_under_an_image_name(folder, said, name):
    path = folder / name
    path.write_text("Patient called, wants results.\n" * 40, encoding="utf-8")
    with pytest.raises(ScanError) as caught:
        read_image(path)
    said(caught, path)


def test_empty_file_and_missing_file(folder, said):
    path = folder / "empty.nii.gz"
    path.touch()
    with pytest.raises(ScanError, match="empty") as caught:
        read_image(path)
    said(caught, path)
    with pytest.raises(ScanError, match="does not exist") as caught:
        read_image(folder / "gone.nii.gz")
    said(caught, folder / "gone.nii.gz")


def test_4d(save, said):
    image = sitk.GetImageFromArray(NOISE)
    path = save(sitk.JoinSeries([image, image]), "perfusion.nii.gz")
    with pytest.raises(ScanError, match="4 dimensions") as caught:
        read_image(path)
    said(caught, path)


@pytest.mark.parametrize("name", ["one.nii.gz", "one.nrrd", "one.mha"])
def test_4d_with_one_volume_is_3d(save, name):
    path = save(sitk.JoinSeries([sitk.GetImageFromArray(NOISE)]), name)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(read_image(path)), NOISE)


def test_rgb(save, said):
    gray = sitk.GetImageFromArray((NOISE % 255).astype(np.uint8))
    path = save(sitk.Compose(gray, gray, gray), "photo.nrrd")
    with pytest.raises(ScanError, match="color") as caught:
        read_image(path)
    said(caught, path)


def test_flat_pictures(save, said):
    for image, name in ((NOISE[:1], "slice.nii.gz"), (sitk.GetImageFromArray(NOISE[0]), "picture.nrrd")):
        path = save(image, name)
        with pytest.raises(ScanError, match="3D") as caught:
            read_image(path)
        said(caught, path)


@pytest.mark.parametrize("name", ["holes.nii.gz", "holes.nii", "holes.nrrd"])
def test_non_finite_voxels_are_replaced_with_a_warning(save, events, heard, scan, name):
    values = sitk.GetArrayFromImage(scan) + 500
    lowest = values.min()
    values[3, 4, 5], values[0, 0, 0], values[-1, -1, -1] = np.nan, np.inf, -np.inf
    image = sitk.GetImageFromArray(values)
    image.CopyInformation(scan)
    path = save(image, name, compress=name.endswith("gz"))
    fixed = read_image(path, events)
    result = sitk.GetArrayFromImage(fixed)
    assert result[3, 4, 5] == result[0, 0, 0] == result[-1, -1, -1] == lowest
    result[3, 4, 5], result[0, 0, 0], result[-1, -1, -1] = np.nan, np.inf, -np.inf
    np.testing.assert_array_equal(result, values)
    assert fixed.GetDirection() == scan.GetDirection()
    assert [event["event"] for event in heard] == ["warning"]
    assert "3 voxels" in heard[0]["message"]
    assert str(path) in heard[0]["message"]


@pytest.mark.parametrize("name", ["nothing.nii.gz", "nothing.nrrd"])
def test_no_number_at_all(save, said, name):
    path = save(np.full((4, 4, 4), np.nan, dtype=np.float32), name)
    with pytest.raises(ScanError, match="no number") as caught:
        read_image(path)
    said(caught, path)


def test_constant_image(save, said):
    path = save(np.full((4, 4, 4), -1024, dtype=np.int16), "constant.nii.gz")
    with pytest.raises(ScanError, match="same value, -1024") as caught:
        read_image(path)
    said(caught, path)


def test_complex_and_double(save, said):
    double = save(NOISE.astype(np.float64), "double.nrrd")
    assert read_image(double).GetPixelID() == sitk.sitkFloat32
    path = save(sitk.RealAndImaginaryToComplex(*[sitk.GetImageFromArray(NOISE.astype(np.float32))] * 2), "phase.nii.gz")
    with pytest.raises(ScanError, match="complex") as caught:
        read_image(path)
    said(caught, path)


def test_metadata_does_not_travel(save):
    image = sitk.GetImageFromArray(NOISE)
    image.SetMetaData("Patient_Name", "Doe^Jane")
    path = save(image, "s.nrrd")
    assert b"Doe^Jane" in path.read_bytes()
    assert not read_image(path).GetMetaDataKeys()


def test_channels_come_to_the_grid_of_the_first(save, scan, events, heard):
    first = save(scan, "case/1_t1.nii.gz")
    finer = sitk.Resample(
        scan, [68, 104, 70], sitk.Transform(), sitk.sitkLinear, scan.GetOrigin(), (0.5,) * 3, scan.GetDirection()
    )
    second = save(finer, "case/2_t2.nii.gz")
    same = save(scan, "case/3_pd.nii.gz")
    images = read_channels([first, second, same], events)
    assert all(image.GetSize() == scan.GetSize() for image in images)
    assert [event["event"] for event in heard] == ["warning"]
    inner = (slice(2, -2),) * 3
    values = sitk.GetArrayFromImage(scan)
    np.testing.assert_allclose(sitk.GetArrayFromImage(images[1])[inner], values[inner], rtol=1e-3, atol=1.0)


def test_channels_that_lie_elsewhere(save, scan, said):
    first = save(scan, "1.nii.gz")
    away = sitk.Image(scan)
    away.SetOrigin((500.0, 0.0, 0.0))
    second = save(away, "2.nii.gz")
    with pytest.raises(ScanError, match="register") as caught:
        read_channels([first, second])
    said(caught, second)


def test_nothing_on_standard_error(save):
    """ITK's own warnings would look like failures to a front end that shows standard error."""
    image = sitk.GetImageFromArray(NOISE)
    path = save(image, "s.nii.gz")
    text = path.with_name("text.nii.gz")
    text.write_text("no image " * 100, encoding="utf-8")
    code = (
        "import sys; from pathlib import Path; from glmae.scans.image import read_image\n"
        "from glmae.errors import ScanError\n"
        "read_image(Path(sys.argv[1]))\n"
        "try: read_image(Path(sys.argv[2]))\n"
        "except ScanError: print('fine')"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(glmae.__file__).parents[1]), "PYTHONUTF8": "1"}
    command = [sys.executable, "-c", code, str(path), str(text)]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", env=environment, check=False)
    assert done.stdout.strip() == "fine"
    assert done.stderr == ""
