"""What structures are like: measured on shapes whose volume, place and pieces are known."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import SimpleITK as sitk

from glmae.scans.cases import find_cases
from glmae.scans.fingerprint import Fingerprint
from glmae.scans.measurement import measure
from glmae.scans.structures import Spread, measure_structures


@pytest.fixture
def label() -> sitk.Image:
    """A box (1), two pieces and a speck (2), and a column (3) from the lowest slice to the highest: 2x1x3 mm."""
    numbers = np.zeros((20, 30, 40), dtype=np.uint8)  # [K, J, I]
    numbers[5:10, 10:20, 4:8] = 1
    numbers[2:8, 2:8, 20:26] = 2
    numbers[12:15, 2:8, 20:26] = 2
    numbers[18, 28, 38] = 2
    numbers[:, 20:26, 30:35] = 3
    image = sitk.GetImageFromArray(numbers)
    image.SetSpacing((2.0, 1.0, 3.0))
    image.SetOrigin((-30.0, 12.0, 5.0))
    return image


def test_volume_place_pieces_and_borders(label):
    values = np.arange(20 * 30 * 40, dtype=np.float32).reshape(20, 30, 40)
    image = sitk.GetImageFromArray(values)
    found = measure_structures(label, [image], [1, 2, 3, 4])
    assert set(found) == {1, 2, 3}
    assert found[1].volume == pytest.approx(5 * 10 * 4 * 6)
    # The identity direction is LPS: the middle of I at 6 of 40 is far on the right, that of J at 15 of 30 the middle.
    assert found[1].place == pytest.approx((1 - 6 / 40, 0.5, 7.5 / 20))
    assert found[1].means == pytest.approx((values[5:10, 10:20, 4:8].mean(),))
    assert (found[1].pieces, found[1].largest) == (1, 1.0)
    assert (found[2].pieces, found[2].largest) == (2, pytest.approx(216 / 325))
    assert [found[value].borders for value in (1, 2, 3)] == [set(), set(), {"I", "S"}]


@pytest.mark.parametrize("code", ["RAS", "LPI", "ASR"])
def test_the_same_in_every_orientation(label, code):
    image = sitk.Cast(label, sitk.sitkFloat32)
    straight = measure_structures(label, [image], [1, 2, 3])
    turned = measure_structures(sitk.DICOMOrient(label, code), [sitk.DICOMOrient(image, code)], [1, 2, 3])
    for value in (1, 2, 3):
        assert turned[value].place == pytest.approx(straight[value].place)
        assert turned[value].borders == straight[value].borders


def test_pieces_of_a_large_box_are_counted_on_a_coarser_grid(label, monkeypatch):
    monkeypatch.setattr("glmae.scans.structures._PIECES_VOXELS", 150)
    assert measure_structures(label, [], [2])[2].pieces == 2


def test_a_few_cases_show_less_spread_than_there_is():
    """One case: the usual deviation, and that of the case itself; many cases: their own."""
    one = Spread.of([4.0])
    assert one.distance(5.0, 0.5) == pytest.approx(1 / (0.5 * math.sqrt(2)))
    many = Spread.of([3.0, 5.0] * 500)
    assert many.distance(5.0, 0.1) == pytest.approx(1.0, rel=0.01)
    assert one.distance(5.0, 0.5) < Spread.of([4.0] * 5).distance(5.0, 0.5)


def test_the_fingerprint_comes_back_from_a_model(samples):
    cases, table = find_cases(samples / "images", samples / "labels", names=["hippocampus_003", "hippocampus_230"])
    fingerprint = measure(cases, table)
    content = json.loads(json.dumps(fingerprint.to_json()))
    assert Fingerprint.from_json(content) == fingerprint
    spread = fingerprint.classes[0].spread
    assert spread is not None
    assert math.exp(spread.log_volume.mean) == pytest.approx(fingerprint.classes[0].volume, rel=0.05)
    assert len(json.dumps(content)) < 2000 + 1000 * len(table)
    # A model of an earlier version lacks what came later.
    for entry in content["classes"]:
        del entry["spread"]
    for entry in content["channels"]:
        del entry["quantiles"]
    old = Fingerprint.from_json(content)
    assert old.classes[0].spread is None
    assert old.channels[0].quantiles == ()


def test_of_what_was_drawn_in_part_no_volume_is_told(samples, tmp_path):
    """One slice of the label is known; its volume would make every result look too large."""
    classes = json.loads((samples / "labels" / "classes.json").read_text(encoding="utf-8"))
    classes["region"] = {"hippocampus_003": {"slices": {"axis": "k", "indices": [14]}}}
    (tmp_path / "classes.json").write_text(json.dumps(classes), encoding="utf-8")
    cases, table = find_cases(
        samples / "images", samples / "labels", names=["hippocampus_003"], classes=tmp_path / "classes.json"
    )
    assert [size.spread for size in measure(cases, table).classes] == [None] * len(table)
