"""One piece in the training cases, one piece in a result; what else is found stays."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from glmae.scans.cases import find_cases
from glmae.scans.fingerprint import Fingerprint
from glmae.scans.geometry import Geometry
from glmae.scans.measurement import measure
from glmae.scans.store import LabeledScan, ScanStore
from glmae.schedule import Schedule
from glmae.segmentation.batch import segment
from glmae.segmentation.finetune_config import FinetuneConfig
from glmae.segmentation.inference import segment_case
from glmae.segmentation.labeled_cases import LabeledCases
from glmae.segmentation.model import Model, load_model
from glmae.segmentation.single_piece import certainty_on, keep_largest_parts, single_pieces
from glmae.segmentation.training import Training

CPU = torch.device("cpu")
NAMES = ["hippocampus_039", "hippocampus_207"]
ANTERIOR, POSTERIOR = 1, 2


@pytest.fixture
def numbers() -> np.ndarray:
    """Class 1 in two parts, one of them bent round a corner; class 2 in three; class 4 whole; class 3 not at all."""
    found = np.zeros((20, 30, 40), dtype=np.uint8)  # [K, J, I]
    found[2:6, 2:6, 2:6] = 1
    found[6:9, 6:9, 6:9] = 1  # touches the first by a corner
    found[2:6, 20:24, 30:35] = 1
    found[12:15, 2:5, 2:5] = found[12:15, 10:13, 2:5] = found[12:15, 20:24, 2:6] = 2
    found[2:9, 10:18, 10:25] = 4
    return found


def test_the_largest_part_is_kept(numbers):
    expected = numbers.copy()
    expected[2:6, 20:24, 30:35] = 0
    shares = keep_largest_parts(numbers, [1, 3, 4])
    np.testing.assert_array_equal(numbers, expected)
    assert shares == {1: pytest.approx(80 / (64 + 27 + 80))}


@pytest.mark.parametrize("voxels", [2**25, 300])
def test_of_two_parts_the_surer_one_is_kept(numbers, voxels, monkeypatch):
    """The certainty is that of a prepared scan of other voxels: two thirds as fine along I, twice as coarse along J."""
    monkeypatch.setattr("glmae.segmentation.single_piece._PARTS_VOXELS", voxels)
    native = Geometry((40, 30, 20), (1.0, 1.0, 1.0))
    grid = Geometry((60, 15, 20), (2 / 3, 2.0, 1.0), (-1 / 6, 0.5, 0.0))
    certainty = np.zeros(grid.size, dtype=np.uint8)
    certainty[:30], certainty[30:] = 30, 40  # the smaller part of class 1 counts 80 x 40, the larger 91 x 30
    expected = numbers.copy()
    expected[2:9, 2:9, 2:9][expected[2:9, 2:9, 2:9] == 1] = 0
    shares = keep_largest_parts(numbers, [1, 4], certainty_on(native, grid, certainty))
    np.testing.assert_array_equal(numbers, expected)
    assert shares == {1: pytest.approx((64 + 27) / (64 + 27 + 80))}


def test_where_nothing_is_sure_the_number_of_voxels_decides(numbers):
    alike = numbers.copy()
    shares = keep_largest_parts(alike, [1])
    assert keep_largest_parts(numbers, [1], lambda box: np.zeros_like(numbers[box])) == shares
    np.testing.assert_array_equal(numbers, alike)


def test_nothing_happens_to_classes_of_several_pieces(numbers):
    before = numbers.copy()
    assert keep_largest_parts(numbers, []) == {}
    np.testing.assert_array_equal(numbers, before)


@pytest.mark.parametrize("voxels", [1500, 300, 40])
def test_a_large_box_is_divided_into_blocks(numbers, voxels, monkeypatch):
    """The same is removed, as long as the parts are further apart than blocks."""
    exact = numbers.copy()
    shares = keep_largest_parts(exact, [1, 4])
    monkeypatch.setattr("glmae.segmentation.single_piece._PARTS_VOXELS", voxels)
    assert keep_largest_parts(numbers, [1, 4]) == pytest.approx(shares)
    np.testing.assert_array_equal(numbers, exact)


def test_blocks_never_break_a_structure(monkeypatch):
    """A thread of single voxels, which every second voxel would miss."""
    thread = np.zeros((24, 24, 24), dtype=np.uint8)
    for place in range(1, 23):
        thread[place, place, 23 - place] = 1
    monkeypatch.setattr("glmae.segmentation.single_piece._PARTS_VOXELS", 500)
    before = thread.copy()
    assert keep_largest_parts(thread, [1]) == {}
    np.testing.assert_array_equal(thread, before)


def test_the_training_cases_decide(sample_scans, tmp_path):
    """Drawn labels of one piece; one of them torn in two; drawn in part only; a model that stored nothing."""
    cases, table = find_cases(sample_scans / "images", sample_scans / "labels", NAMES)
    fingerprint = measure(cases, table)
    assert single_pieces(fingerprint, table) == [ANTERIOR, POSTERIOR]

    shutil.copytree(sample_scans / "labels", tmp_path / "torn")
    file = tmp_path / "torn" / f"{NAMES[1]}.nii.gz"
    label = sitk.ReadImage(str(file))
    torn = sitk.GetArrayFromImage(label)
    middle = int(np.median(np.nonzero(torn == POSTERIOR)[1]))
    torn[:, middle - 1 : middle + 2][torn[:, middle - 1 : middle + 2] == POSTERIOR] = 0
    changed = sitk.GetImageFromArray(torn)
    changed.CopyInformation(label)
    sitk.WriteImage(changed, str(file))
    cases, table = find_cases(sample_scans / "images", tmp_path / "torn", NAMES)
    assert single_pieces(measure(cases, table), table) == [ANTERIOR]

    classes = json.loads((sample_scans / "labels" / "classes.json").read_text(encoding="utf-8"))
    classes["region"] = {name: {"slices": {"axis": "k", "indices": [14]}} for name in NAMES}
    (tmp_path / "classes.json").write_text(json.dumps(classes), encoding="utf-8")
    parts, table = find_cases(sample_scans / "images", sample_scans / "labels", NAMES, tmp_path / "classes.json")
    assert single_pieces(measure(parts, table), table) == []

    old = replace(fingerprint, classes=tuple(replace(size, spread=None) for size in fingerprint.classes))
    assert single_pieces(old, table) == single_pieces(Fingerprint(), table) == []


@pytest.fixture
def model(untrained_model) -> Model:
    """It scatters both classes over the scan."""
    opened = load_model(untrained_model, CPU)
    assert single_pieces(opened.fingerprint, opened.classes) == [ANTERIOR, POSTERIOR]
    return opened


def pieces(labels: sitk.Image, value: int) -> int:
    mask = labels == value
    return int(sitk.GetArrayFromImage(sitk.ConnectedComponent(mask, True)).max())


def test_results_reports_and_held_out_scores_are_of_the_largest_parts(model, untrained_model, sample_scans, tmp_path):
    cases, table = find_cases(sample_scans / "images", sample_scans / "labels", NAMES)
    found = segment_case(replace(model, fingerprint=Fingerprint()), cases[1], CPU)
    kept = segment_case(model, cases[1], CPU)
    assert found.left_out == {}
    assert kept.left_out, "this model scatters"
    before, after = sitk.GetArrayFromImage(found.labels), sitk.GetArrayFromImage(kept.labels)
    assert (after[after > 0] == before[after > 0]).all()
    for value, share in kept.left_out.items():
        assert pieces(found.labels, value) > pieces(kept.labels, value) == 1
        assert share == pytest.approx(1 - (after == value).sum() / (before == value).sum())

    # What is reported is what is written.
    segment(model=untrained_model, images=list(cases[1].images), out=tmp_path / "out", file_format="nii.gz")
    written = sitk.ReadImage(str(tmp_path / "out" / f"{NAMES[1]}.nii.gz"))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(written), after)
    (row,) = json.loads((tmp_path / "out" / "report" / "report.json").read_text(encoding="utf-8"))["cases"]
    volume = float(np.prod(kept.labels.GetSpacing())) / 1000
    for entry in table:
        assert row["volumes_ml"][entry.name] == pytest.approx(volume * (after == entry.value).sum(), rel=1e-3)
    told = {flag["class"] for flag in row["flags"] if "left out" in flag["message"]}
    assert told == {table.names[value - 1] for value, share in kept.left_out.items() if share > 0.25}

    # The folds' scans, which are kept prepared, in half precision, are segmented likewise.
    store = ScanStore.prepare(tmp_path / "scans", cases, model.preparation, table)
    label = store.label(1)
    assert label is not None
    scan = LabeledScan(store.image(1), label, store.annotated(1), model.preparation.spacing)
    config = FinetuneConfig(crop=model.config.crop, location=False)  # as the model
    training = Training(model.network, config, [scan], Schedule(1), CPU)
    labeled = LabeledCases(cases, store, table, model.preparation, fingerprint=model.fingerprint)
    scored = labeled.segment(1, training, lambda: None)
    assert [pieces(scored, value) for value in kept.left_out] == [1] * len(kept.left_out)
    assert np.mean(sitk.GetArrayFromImage(scored) == after) > 0.98
