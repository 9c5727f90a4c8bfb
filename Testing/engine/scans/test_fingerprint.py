from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest
import SimpleITK as sitk

from glmae.errors import RequestError, ScanError
from glmae.scans.case import Case
from glmae.scans.cases import find_cases
from glmae.scans.classes import ClassTable, SegmentClass
from glmae.scans.measurement import measure
from glmae.scans.region import Region

TABLE = ClassTable((SegmentClass(1, "ball"), SegmentClass(2, "absent")))


@pytest.fixture
def ct(save):
    """A body of soft tissue with a ball of bone in air, in Hounsfield units; and the label of the ball."""
    rng = np.random.default_rng(0)
    k, j, i = np.indices((30, 40, 50))
    body = np.hypot(j - 20, i - 25) < 18
    ball = (k - 15) ** 2 + (j - 20) ** 2 + (i - 25) ** 2 < 36
    values = np.where(ball, 700, np.where(body, 40, -1000)) + rng.normal(0, 15, body.shape)
    image = save(np.clip(values, -1024, 3071).astype(np.int16), "ct/a.nii.gz", (0.8, 0.8, 5.0))
    label = save(ball.astype(np.uint8), "labels/a.nii.gz", (0.8, 0.8, 5.0))
    return Case("a", (image,), label), int(ball.sum())


def test_real_scans(samples):
    cases, table = find_cases(samples / "images", samples / "labels", names=["hippocampus_003", "hippocampus_230"])
    found = measure(cases, table)
    assert found.sizes[0] == (34, 52, 35)
    assert found.spacings[0] == (1.0, 1.0, 1.0)
    assert [channel.modality for channel in found.channels] == ["mr"]
    assert [size.name for size in found.classes] == list(table.names)
    assert found.labeled == 2
    label = sitk.ReadImage(str(cases[0].label))
    other = sitk.ReadImage(str(cases[1].label))
    counts = [int((sitk.GetArrayViewFromImage(image) == 1).sum()) for image in (label, other)]
    assert found.classes[0].volume == pytest.approx(np.mean(counts))
    text = json.dumps(found.to_json())
    assert "hippocampus_003" not in text, "it travels with models"


def test_hounsfield_units(ct, save):
    case, voxels = ct
    found = measure([case], TABLE)
    (channel,) = found.channels
    assert channel.modality == "ct"
    assert channel.mean == pytest.approx(700, abs=2), "of the labeled voxels"
    assert channel.std == pytest.approx(15, abs=2)
    assert 650 < channel.low < channel.mean < channel.high < 750
    (ball,) = found.classes
    assert (ball.name, ball.cases, ball.voxels) == ("ball", 1, voxels)
    assert ball.volume == pytest.approx(voxels * 0.8 * 0.8 * 5)
    assert math.pi / 6 * ball.diameter**3 == pytest.approx(ball.volume)


@pytest.mark.parametrize(
    "region",
    [Region(axis=2, slices=(9, 12, 15, 18, 21)), Region(axis=0, slices=tuple(range(19, 32, 3)))],
    ids=["every third slice", "every third sagittal"],
)
def test_size_of_a_class_that_was_labeled_in_a_few_slices(ct, region):
    """The spacing of the network follows from it: a ball drawn in every third slice is no small one."""
    case, voxels = ct
    (drawn,) = measure([dataclasses.replace(case, region=region)], TABLE).classes
    (whole,) = measure([case], TABLE).classes
    assert drawn.diameter == pytest.approx(whole.diameter, rel=0.1)
    assert drawn.voxels == pytest.approx(voxels, rel=0.3)
    other = dataclasses.replace(case, name="b", region=region)
    assert measure([case, other], TABLE).classes[0].volume == whole.volume, "what was labeled all over is believed"


def test_hounsfield_units_without_label(ct):
    found = measure([Case("a", ct[0].images)])
    assert found.channels[0].modality == "ct"
    assert found.channels[0].low > -500, "the body, not the air around it"
    assert found.labeled == 0
    assert not found.classes


@pytest.mark.parametrize(
    ("change", "modality"),
    [
        (lambda hu: hu.astype(np.float32) + 0.25, "ct"),  # resampled
        (lambda hu: np.where(np.indices(hu.shape)[2] < 3, -2000, hu).astype(np.int16), "ct"),  # padded by the scanner
        (lambda hu: (hu + 1024).astype(np.uint16), "mr"),  # not Hounsfield units
        (lambda hu: (hu / 1000).astype(np.float32), "mr"),  # already scaled
        (lambda hu: (hu * 60).astype(np.int32), "mr"),
    ],
)
def test_what_counts_as_hounsfield_units(ct, save, change, modality):
    values = sitk.GetArrayFromImage(sitk.ReadImage(str(ct[0].images[0])))
    path = save(change(values), "changed.nrrd")
    assert measure([Case("a", (path,))]).channels[0].modality == modality


def test_sizes_are_in_ras_order(save, scan):
    turned = save(sitk.DICOMOrient(scan, "SAL"), "turned.nrrd")
    found = measure([Case("a", (turned,))])
    assert found.sizes == ((34, 52, 35),)


def test_unreadable_scan(ct, folder):
    broken = folder / "broken.nii.gz"
    broken.write_text("not a scan", encoding="utf-8")
    cases = [Case("broken", (broken,)), ct[0]]
    with pytest.raises(ScanError):
        measure(cases)
    assert len(measure(cases, read_failures="skip").sizes) == 1
    with pytest.raises(RequestError, match="none of the scans"):
        measure(cases[:1], read_failures="skip")


def test_different_channels(ct, said):
    path = ct[0].images[0]
    with pytest.raises(RequestError, match="2 channels and the others have 1") as caught:
        measure([Case("a", (path,)), Case("b", (path, path))])
    said(caught, "case b")
