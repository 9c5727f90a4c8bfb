"""Doubts: none about labels that people drew, and the right one about each way to be wrong."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk

from glmae.scans.cases import find_cases
from glmae.scans.fingerprint import Fingerprint
from glmae.scans.image import read_channels
from glmae.scans.labels import read_label
from glmae.scans.measurement import measure
from glmae.scans.structures import measure_structures
from glmae.segmentation.flags import KINDS, find_flags


@pytest.fixture(scope="module")
def all_cases(sample_scans):
    return find_cases(sample_scans / "images", sample_scans / "labels")


@pytest.fixture(scope="module")
def known(all_cases):
    """The fingerprint of two training cases."""
    cases, table = all_cases
    return measure(cases[:2], table)


@pytest.fixture
def judged(all_cases, known):
    """The kinds of flags and their sentences for the label of a case that was not trained on, after a change."""
    cases, table = all_cases

    def judge(change=lambda image, numbers: (image, numbers), fingerprint=known, uncertainty=None, left_out=None):
        image = read_channels(cases[5].images)[0]
        label = read_label(cases[5], image, table)
        other_image, numbers = change(image, sitk.GetArrayFromImage(label))
        changed = sitk.GetImageFromArray(numbers)
        changed.CopyInformation(other_image)
        structures = measure_structures(changed, [other_image], table.values)
        flags = find_flags([other_image], structures, table, fingerprint, uncertainty or {}, left_out or {})
        for flag in flags:
            assert flag.kind in KINDS
            assert flag.name is None or flag.name in flag.message
        return {(flag.kind, flag.name): flag.message for flag in flags}

    return judge


ANTERIOR, POSTERIOR = "hippocampus anterior", "hippocampus posterior"


def test_no_doubt_about_labels_of_other_cases(all_cases, known):
    cases, table = all_cases
    for case in cases[2:]:
        image = read_channels(case.images)[0]
        structures = measure_structures(read_label(case, image, table), [image], table.values)
        assert find_flags([image], structures, table, known, {}, {}) == []


def test_empty(judged):
    flags = judged(lambda image, numbers: (image, np.where(numbers == 1, 0, numbers)))
    assert list(flags) == [("empty", ANTERIOR)]
    assert "2 of 2 labels" in flags["empty", ANTERIOR]


def test_too_small(judged):
    def eaten(image, numbers):
        front = np.flatnonzero((numbers == 2).any(axis=(0, 2)))
        numbers[:, front[len(front) // 4] :, :][numbers[:, front[len(front) // 4] :, :] == 2] = 0
        return image, numbers

    assert "smaller" in judged(eaten)["volume", POSTERIOR]


def test_elsewhere(judged):
    flags = judged(lambda image, numbers: (image, np.roll(numbers, 14, axis=0)))
    assert "upper side" in flags["position", ANTERIOR]


def test_left_and_right_confused(judged):
    """A scan that was mirrored, say: every structure has the right size but sits on the other side."""
    assert "side" in judged(lambda image, numbers: (image, np.roll(numbers, 8, axis=2)))["position", POSTERIOR]


def test_in_pieces(judged):
    def striped(image, numbers):
        between = (np.indices(numbers.shape)[1] % 6 < 3) & (numbers == 1)
        return image, np.where(between, 0, numbers).astype(np.uint8)

    assert "pieces" in judged(striped)["fragments", ANTERIOR]


def test_cut_off(judged):
    def cut(image, numbers):
        top = int(np.flatnonzero((numbers == 2).any(axis=(1, 2)))[-1]) - 5
        return image[:, :, :top], np.ascontiguousarray(numbers[:top])

    assert "upper border" in judged(cut)["cut off", POSTERIOR]


def test_in_the_wrong_tissue(judged):
    def brightened(image, numbers):
        values = sitk.GetArrayFromImage(image).astype(np.float32)
        values[numbers == 1] = np.percentile(values, 99)
        other = sitk.GetImageFromArray(values)
        other.CopyInformation(image)
        return other, numbers

    assert ("brightness", ANTERIOR) in judged(brightened)


def test_another_kind_of_scan(judged):
    def hounsfield(image, numbers):
        return sitk.Cast(sitk.RescaleIntensity(image, -1000, 900), sitk.sitkInt16), numbers

    assert "Hounsfield" in judged(hounsfield)["intensities", None]
    dark = judged(lambda image, numbers: (sitk.Pow(sitk.RescaleIntensity(image, 0, 1), 20.0), numbers))
    assert "spread unlike" in dark["intensities", None]
    same = judged(lambda image, numbers: (sitk.Cast(image, sitk.sitkFloat32) * 0.01 + 7, numbers))
    assert ("intensities", None) not in same, "an MR has no unit"


@pytest.mark.parametrize(("factor", "word"), [(2.0, "coarser"), (0.25, "finer")])
def test_other_voxels(judged, factor, word):
    def stretched(image, numbers):
        image.SetSpacing([side * factor for side in image.GetSpacing()])
        return image, numbers

    assert word in judged(stretched)["spacing", None]


def test_unsure(judged):
    assert "60%" in judged(uncertainty={1: 0.4, 2: 0.1})["uncertain", ANTERIOR]


def test_much_was_left_out(judged):
    assert list(flags := judged(left_out={1: 0.4, 2: 0.2})) == [("fragments", ANTERIOR)]
    assert "40%" in flags["fragments", ANTERIOR]


def test_models_of_earlier_versions(judged, known):
    """Without what training cases were like, what can be said is said."""
    old = replace(known, classes=tuple(replace(size, spread=None) for size in known.classes))
    for fingerprint in (Fingerprint(), old):
        flags = judged(lambda image, numbers: (image, np.where(numbers == 1, 0, numbers)), fingerprint)
        assert list(flags) == [("empty", ANTERIOR)]
