"""The paper's data sets, as stand-ins in the folders in which they are published."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
from engine.published_sets import HEART, write_set

from glmae.errors import RequestError
from glmae.scans.image import read_channels
from glmae.scans.labels import read_label
from research.published_layout import LAYOUTS, read_published


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_labeled_case_is_found_with_its_own_label(name, folder):
    names = write_set(name, folder)
    cases, classes = read_published(name, folder)
    assert [case.name for case in cases] == sorted(names)
    for case in cases:
        channels = read_channels(case.images)
        label = read_label(case, channels[0], classes)
        numbers = sitk.GetArrayFromImage(label)
        held = {int(number) for number in np.unique(numbers)} - {0}
        assert held <= set(range(1, len(classes) + 1))
        # The stand-ins' structures differ in brightness in the order of their values.
        means = [sitk.GetArrayFromImage(channels[0])[numbers == number].mean() for number in sorted(held)]
        assert means == sorted(means)
        assert means[0] > sitk.GetArrayFromImage(channels[0]).mean()


def test_classes_have_their_names_and_values(folder):
    wanted = {
        "btcv": (13, {1: "spleen", 6: "liver", 13: "left adrenal gland"}),
        "spleen": (1, {1: "spleen"}),
        "amos22": (2, {2: "right kidney"}),
        "mmwhs": (7, {205: "left ventricular myocardium", 850: "pulmonary artery"}),
        "brats21": (3, {4: "enhancing tumor"}),
        "covid19": (1, {1: "COVID-19 lesion"}),
    }
    for name, (count, some) in wanted.items():
        write_set(name, folder / name, cases=2)
        _, classes = read_published(name, folder / name)
        assert len(classes) == count
        assert some.items() <= {entry.value: entry.name for entry in classes}.items()
    assert tuple(value for value, _ in LAYOUTS["mmwhs"].classes) == HEART


def test_a_class_without_voxels_is_absent_not_unknown(folder):
    write_set("btcv", folder)
    cases, classes = read_published("btcv", folder)
    assert all(case.annotated == frozenset(classes.names) for case in cases)


def test_channels_are_in_the_order_of_their_names(folder):
    write_set("brats21", folder)
    cases, _ = read_published("brats21", folder)
    assert [file.name for file in cases[1].images] == [
        f"BraTS2021_00001_{channel}.nii.gz" for channel in ("flair", "t1", "t1ce", "t2")
    ]


@pytest.mark.parametrize("name", LAYOUTS)
def test_another_folder_is_refused(name, folder, said):
    with pytest.raises(RequestError) as caught:
        read_published(name, folder)
    said(caught, folder)
    with pytest.raises(RequestError) as caught:
        read_published(name, folder / "missing")
    said(caught, "missing")


def test_validation_scans_without_labels_are_left_out(folder):
    names = write_set("amos22", folder)
    (folder / "labelsVa" / "amos_0400.nii.gz").unlink()
    assert [case.name for case in read_published("amos22", folder)[0]] == names[:-1]


def test_what_is_missing_is_named(folder, said):
    write_set("covid19", folder / "covid")
    (folder / "covid" / "Train" / "volume-covid19-A-0004_ct.nii.gz").unlink()
    with pytest.raises(RequestError) as caught:
        read_published("covid19", folder / "covid")
    said(caught, "volume-covid19-A-0004_seg.nii.gz")

    write_set("spleen", folder / "spleen")
    (folder / "spleen" / "labelsTr" / "spleen_11.nii.gz").unlink()
    with pytest.raises(RequestError) as caught:
        read_published("spleen", folder / "spleen")
    said(caught, "spleen_11.nii.gz")

    write_set("btcv", folder / "twice" / "a")
    write_set("btcv", folder / "twice" / "b")
    with pytest.raises(RequestError) as caught:
        read_published("btcv", folder / "twice")
    said(caught, "img0061.nii.gz")
