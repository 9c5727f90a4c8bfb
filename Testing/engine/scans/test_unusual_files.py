"""Image files as they are found: headers that lack or contradict something, endings in capitals, bytes at the end."""

from __future__ import annotations

import gzip
import os
import re
import struct
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from glmae.errors import ScanError, TooLargeError
from glmae.scans.image import ITK_ENDINGS, load, read_image
from glmae.scans.memory import check_memory

NOISE = np.random.default_rng(0).integers(0, 1000, (20, 24, 28)).astype(np.int16)
packed = partial(gzip.compress, mtime=0)  # no time in it: tests are called after what they read
SFORM, CODES, PIXDIM, UNITS = 280, 252, 76, 123


@pytest.fixture
def nifti(folder):
    """A NIfTI file on a grid of 1 x 2 x 3 mm, with fields of its header overwritten: (place, format, values)."""

    def write(*fields, name="s.nii"):
        image = sitk.GetImageFromArray(NOISE)
        image.SetSpacing((1, 2, 3))
        sitk.WriteImage(image, str(folder / "plain.nii"))
        content = bytearray((folder / "plain.nii").read_bytes())
        for place, kind, values in fields:
            struct.pack_into("<" + kind, content, place, *values)
        (folder / name).write_bytes(content)
        return folder / name

    return write


def nrrd(path, *lines):
    header = ["NRRD0004", "type: short", "dimension: 3", "sizes: 28 24 20", "encoding: raw", "endian: little", *lines]
    path.write_bytes("\n".join(header).encode() + b"\n\n" + NOISE.tobytes())
    return path


def mha(path, *lines):
    header = ["ObjectType = Image", "NDims = 3", "DimSize = 28 24 20", "ElementType = MET_SHORT", *lines]
    path.write_bytes("\n".join([*header, "ElementDataFile = LOCAL\n"]).encode() + NOISE.tobytes())
    return path


def test_slanted_axes_are_refused_alike(folder, nifti, said):
    axes = "space directions: (1,0,0) (0,1,0) (0,0.9,1)"
    for path in (
        nrrd(folder / "s.nrrd", "space: LPS", axes, "space origin: (5,6,7)"),
        nrrd(folder / "s.seg.nrrd", "space: RAS", axes, "space origin: (5,6,7)"),
        mha(folder / "s.mha", "TransformMatrix = 1 0 0 0 1 0 0 0.6 0.8", "ElementSpacing = 1 1 1"),
        nifti((SFORM, "12f", (-1, 0.5, 0, 0, 0, -2, 0, 0, 0, 0, 3, 0)), (CODES, "2h", (0, 1))),
    ):
        with pytest.raises(ScanError, match="slanted axes") as caught:
            load(path)
        said(caught, path)


def test_digits_that_were_cut_off_are_no_slant(folder):
    axes = "space directions: (0.707,0.707,0) (-0.7071,0.7071,0) (0,0,1)"
    assert load(nrrd(folder / "s.nrrd", "space: LPS", axes, "space origin: (0,0,0)")).GetSize() == (28, 24, 20)


def test_no_voxel_size(folder, nifti, said):
    for path in (
        nrrd(folder / "a.nrrd"),
        nrrd(folder / "b.nrrd", "spacings: nan nan nan"),
        mha(folder / "a.mha"),
        nifti((PIXDIM + 4, "3f", (0, 0, 0)), (CODES, "2h", (1, 0))),
        nifti((PIXDIM + 4, "3f", (1, -2, 3)), name="negative.nii"),
        nifti((PIXDIM + 4, "3f", (float("nan"), 2, 3)), name="nan.nii"),
    ):
        with pytest.raises(ScanError, match="no voxel size") as caught:
            load(path)
        said(caught, path)


@pytest.mark.parametrize(
    ("matrix", "codes", "counts"),
    [
        ((1, 0, 0, 0, 0, -2, 0, 0, 0, 0, 3, 0), (1, 1), "the sform counts, not the qform"),  # mirrored
        ((-1, 0, 0, 50, 0, -2, 0, 0, 0, 0, 3, 0), (2, 1), "the sform counts, not the qform"),
        ((-1.5, 0, 0, 0, 0, -2, 0, 0, 0, 0, 3, 0), (1, 2), "the qform counts, not the sform"),
        ((-1, 0.5, 0, 0, 0, -2, 0, 0, 0, 0, 3, 0), (1, 2), "the qform counts, not the sform"),  # slanted
    ],
)
def test_two_answers_where_a_scan_lies(nifti, events, heard, matrix, codes, counts):
    path = nifti((SFORM, "12f", matrix), (CODES, "2h", codes))
    image = read_image(path, events)
    assert [event["message"].split("; ")[1] for event in heard] == [counts + "."]
    assert str(path) in heard[0]["message"]
    used = np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing() * np.array([[-1], [-1], [1]])
    stated = np.array(matrix).reshape(3, 4)[:, :3] if "sform counts" in counts else np.diag([-1, -2, 3])
    np.testing.assert_allclose(used, stated, atol=1e-5)


def test_no_answer_where_a_scan_lies(nifti, events, heard):
    read_image(nifti((CODES, "2h", (0, 0))), events)
    assert "does not say where it lies" in heard[0]["message"]


@pytest.mark.parametrize("orientation", ["RAS", "LPS", "LAS", "PIR", "ASL"])
def test_one_answer_is_not_spoken_of(save, scan, events, heard, orientation):
    turned = sitk.DICOMOrient(scan, orientation)
    oblique = sitk.Image(turned)
    turn = np.array(sitk.VersorTransform((1.0, 0.2, 0.0), 0.3).GetMatrix()).reshape(3, 3)
    oblique.SetDirection((turn @ np.array(turned.GetDirection()).reshape(3, 3)).ravel())
    for image, name in ((turned, "a.nii.gz"), (oblique, "b.nii.gz")):
        read_image(save(image, name), events)
    assert not heard


def test_a_unit_that_must_be_wrong(save, nifti, folder, said):
    for path, what in (
        (save(NOISE, "m.nii.gz", (1000, 1000, 1000)), "1000 mm"),
        (save(NOISE, "small.nrrd", (0.001, 0.001, 0.002)), "0.04 mm wide"),
        (nifti((UNITS, "b", (1,))), "3000 mm"),
    ):
        for call in (lambda path=path: read_image(path), lambda path=path: memory(path)):
            with pytest.raises(ScanError, match=f"{what}.*unit") as caught:
                call()
            said(caught, path)
            assert not isinstance(caught.value, TooLargeError)
    path = nrrd(
        folder / "um.nrrd", "space: LPS", "space directions: (5,0,0) (0,5,0) (0,0,5)", 'space units: "um" "um" "um"'
    )
    with pytest.raises(ScanError, match="in 'um'") as caught:
        read_image(path)
    said(caught, path)


def memory(path):
    from glmae.scans.preparation import Preparation

    check_memory("p1", [path], object.__new__(Preparation), 2, 64)


@pytest.mark.parametrize("ending", ITK_ENDINGS)
def test_endings_in_capitals(save, ending):
    path = save(NOISE, f"s{ending}", compress=False)
    path.rename(path.with_name("BIG" + ending.upper()))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(read_image(path.with_name("BIG" + ending.upper()))), NOISE)


@pytest.mark.parametrize("ending", [".Nrrd", ".Mha", ".Seg.Nrrd"])
def test_endings_of_small_and_capital_letters(save, ending):
    path = save(NOISE, f"s{ending.lower()}")
    path = path.rename(path.with_name("Größe" + ending))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(load(path)), NOISE)


@pytest.mark.parametrize("ending", [".Nii.gz", ".nii.GZ", ".Nii"])
def test_nifti_endings_that_its_library_does_not_know(save, ending):
    path = save(NOISE, f"s{ending.lower()}")
    with pytest.raises(ScanError, match=rf"rename it to end with {re.escape(ending.lower())}"):
        load(path.rename(path.with_name("Größe" + ending)))


@pytest.mark.parametrize("name", ["s.nii.gz", "s.nrrd", "s.mha"])
@pytest.mark.parametrize("tail", [b"\0" * 200, b"signed by somebody"])
def test_bytes_behind_a_compressed_stream(save, name, tail):
    path = save(NOISE, name)
    path.write_bytes(path.read_bytes() + tail)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(read_image(path)), NOISE)


def test_bytes_behind_floats_with_holes(save):
    """These are looked through a second time, for voxels that are no number."""
    values = NOISE.astype(np.float32)
    values[3, 4, 5] = np.nan
    path = save(values, "s.nii.gz")
    path.write_bytes(path.read_bytes() + b"\0" * 200)
    assert sitk.GetArrayFromImage(read_image(path))[3, 4, 5] == 0


@pytest.mark.parametrize("name", ["s.nrrd", "s.seg.nrrd", "s.nhdr", "s.mha", "s.mhd", "s.nii.gz"])
def test_damaged_voxels_are_noticed(save, said, name, capfd):
    """Readers of NRRD and MetaImage do not look at the checksum, and give other voxels, or what lies in memory."""
    path = save(NOISE, name)
    voxels = next((file for file in path.parent.iterdir() if file.name in ("s.raw.gz", "s.zraw")), path)
    whole = voxels.read_bytes()
    for place in np.random.default_rng(0).integers(len(whole) // 2, len(whole) - 4, 12):
        damaged = bytearray(whole)
        damaged[place] ^= 16
        voxels.write_bytes(damaged)
        with pytest.raises(ScanError, match=r"damaged|cannot be read") as caught:
            load(path)
        said(caught, path)
    assert capfd.readouterr().err == ""


def test_voxels_that_are_missing(folder, said, capfd):
    axes = "space directions: (1,0,0) (0,1,0) (0,0,1)"
    for path in (
        nrrd(folder / "a.nrrd", "space: LPS", axes),
        mha(folder / "a.mha", "ElementSpacing = 1 1 1"),
        mha(folder / "b.mha", "ElementSpacing = 1 1 1", "DimSize = 99999 99999 99999"),
    ):
        path.write_bytes(path.read_bytes()[:-1])
        with pytest.raises(ScanError, match="incomplete") as caught:
            load(path)
        said(caught, path)
    assert capfd.readouterr().err == ""


NAN = float("nan")


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ([(SFORM, "f", (NAN,)), (CODES, "2h", (0, 1))], "where it lies"),
        ([(SFORM + 12, "f", (float("inf"),)), (CODES, "2h", (1, 2))], "where it lies"),
        ([(268, "3f", (NAN,) * 3), (CODES, "2h", (1, 0))], "where it lies"),
        ([(SFORM, "12f", (0,) * 12), (CODES, "2h", (0, 1))], "no voxel size"),
        ([(40, "4h", (3, 28, 0, 20))], "no size"),
        ([(40, "h", (9,))], "no size"),
        ([(70, "h", (1,))], "a type that is not read"),
        ([(70, "h", (1536,))], "a type that is not read"),
    ],
)
def test_a_nifti_header_that_says_nothing(nifti, said, capfd, fields, reason):
    path = nifti(*fields)
    with pytest.raises(ScanError, match=reason) as caught:
        load(path)
    said(caught, path)
    assert capfd.readouterr().err == "", "nor do libraries talk past the one sentence"


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        (["ElementSpacing = 0 1 1"], "no voxel size"),
        (["ElementSpacing = 1,5 1,5 2,5"], "'1,5 1,5 2,5' where"),
        (["ElementSpacing = 1 1 1", "Offset = nan 0 0"], "the numbers of Offset"),
        (["ElementSpacing = 1 1 1", "TransformMatrix = 1 0 0 1 0 0 0 0 1"], "in one plane"),
        (["ElementSpacing = 1 1 1", "NDims = three"], "no image|not an image"),
        (["ElementSpacing = 1 1 1", "DimSize = -28 24 20"], "not an image"),
    ],
)
def test_a_metaimage_header_that_says_nothing(folder, said, capfd, lines, reason):
    fields = {line.split(" = ")[0]: line for line in ("NDims = 3", "DimSize = 28 24 20", *lines)}
    text = "\n".join(["ObjectType = Image", *fields.values(), "ElementType = MET_SHORT", "ElementDataFile = LOCAL\n"])
    (folder / "s.mha").write_bytes(text.encode() + NOISE.tobytes())
    with pytest.raises(ScanError, match=reason) as caught:
        load(folder / "s.mha")
    said(caught, folder / "s.mha")
    assert capfd.readouterr().err == ""


def test_an_axis_that_is_none_of_space(folder, said):
    """Colors along the first axis: no slices."""
    path = nrrd(folder / "s.nrrd", "space: LPS", "space directions: none (0,1,0) (0,0,1)", "space origin: (0,0,0)")
    with pytest.raises(ScanError, match="no voxel size") as caught:
        load(path)
    said(caught, path)


def test_a_list_of_one_layer_is_a_plain_image(folder):
    path, axes = folder / "s.nrrd", "space directions: none (1,0,0) (0,1,0) (0,0,1)"
    lines = ["NRRD0004", "type: short", "dimension: 4", "sizes: 1 28 24 20", "encoding: raw", "endian: little"]
    lines += ["space: LPS", axes, "kinds: list domain domain domain"]
    path.write_bytes("\n".join(lines).encode() + b"\n\n" + NOISE.tobytes())
    image = read_image(path)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(sitk.Cast(image, sitk.sitkFloat32)), NOISE)


@pytest.mark.parametrize("name", ["s.nii.gz", "s.nrrd"])
def test_complex_numbers_are_no_labels_either(save, said, label, name):
    real = sitk.Cast(label, sitk.sitkFloat32)
    path = save(sitk.RealAndImaginaryToComplex(real, real), name)
    with pytest.raises(ScanError, match="complex") as caught:
        load(path)
    said(caught, path)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.nii.gz", packed(struct.pack("<i8s", 540, b"n+2\0\r\n\x1a\n") + bytes(600)), "NIfTI-2, .*NIfTI-1"),
        ("a.nii", struct.pack(">i8s", 540, b"n+2\0\r\n\x1a\n") + bytes(600), "NIfTI-2, .*NIfTI-1"),
        ("a.nii.gz", b"version https://git-lfs.github.com/spec/v1\noid sha256:12\nsize 12\n", "git lfs pull"),
        ("a.nrrd", b"/annex/objects/SHA256E-s1--12.nrrd\n", "datalad get"),
        ("a.nii", bytes(128) + b"DICM" + bytes(600), "a DICOM file under another name"),
        ("a.nrrd", b"<!DOCTYPE html><html><body>Please log in</body></html>", "page of the web"),
        ("a.mha", b"PK\x03\x04" + bytes(300), "ZIP"),
        ("a.mgz", packed(struct.pack("<i", 348) + bytes(600)), r"NIfTI .* give it the ending \.nii"),
        ("a.nrrd", struct.pack(">i", 348) + bytes(600), r"NIfTI .* give it the ending \.nii"),
        ("a.mha", packed(struct.pack("<i", 348) + bytes(600)), r"NIfTI .* give it the ending \.nii"),
        ("a.nii", packed(bytes(600)), r"an ending with \.gz"),
        ("a.nii.gz", packed(packed(bytes(600))), "packed twice"),
        ("a.nii", b"BZh91AY" + bytes(300), "unpack it"),
        ("a.nii", b"NRRD0004\ntype: short\n", r"give it the ending \.nrrd"),
        ("a.nrrd", b"\x89PNG\r\n" + bytes(300), "a picture"),
        (
            "a.nhdr",
            b"NRRD0004\ntype: short\ndimension: 3\nsizes: 4 4 4\nspacings: 1 1 1\nencoding: raw\n"
            b"endian: little\ndata file: gone.raw\n\n",
            "gone.raw",
        ),
        (
            "a.mhd",
            b"NDims = 3\nDimSize = 4 4 4\nElementSpacing = 1 1 1\nElementType = MET_SHORT\n"
            b"ElementDataFile = gone.raw\n",
            "gone.raw",
        ),
    ],
)
def test_only_what_is_damaged_is_called_so(folder, said, capfd, name, content, reason):
    path = folder / name
    path.write_bytes(content)
    with pytest.raises(ScanError, match=reason) as caught:
        read_image(path)
    assert "damaged" not in said(caught, path).replace(str(path), "")
    assert capfd.readouterr().err == ""


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="these systems have no such names")
@pytest.mark.parametrize("name", [b"M\xfcller.nii.gz", b"M\xfcller.nrrd", b"M\xfcller.mgz", b"M\xfcller"])
def test_a_name_that_is_no_text(folder, said, name):
    path = os.fsencode(folder) + b"/" + name
    if name.endswith(b"er"):
        os.mkdir(path)
    else:
        open(path, "wb").close()
    with pytest.raises(ScanError, match="not UTF-8; rename it") as caught:
        read_image(Path(os.fsdecode(path)))
    assert said(caught, folder).isprintable()
    assert r"M\xfcller" in str(caught.value)


def test_headers_in_another_code_page(folder):
    """Keys, and values, of free text that are Latin-1: nothing of it is needed, and nothing of it may end the work."""
    header = (
        "NRRD0004\ntype: short\ndimension: 3\nspace: LPS\nsizes: 28 24 20\nspace directions: (1,0,0) (0,1,0) (0,0,1)\n"
    )
    header += "kinds: domain domain domain\nencoding: raw\nendian: little\nspace origin: (1,2,3)\n"
    header += "Größe:=groß\nUntersucher:=Müller\n"
    path = folder / "s.nrrd"
    path.write_bytes(header.encode("latin-1") + b"\n" + NOISE.tobytes())
    image = read_image(path)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), NOISE)
    assert image.GetOrigin() == (1, 2, 3)
    assert not image.GetMetaDataKeys()


def test_a_label_given_as_a_scan_is_spoken_of(save, label, scan, events, heard):
    read_image(save(label, "a.nii.gz"), events)
    assert "3 values, as a label map" in heard[0]["message"]
    read_image(save(scan, "b.nii.gz"), events)
    assert len(heard) == 1
