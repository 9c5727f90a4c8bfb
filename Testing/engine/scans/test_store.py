from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk

from glmae.errors import RequestError, ScanError, Stopped, StorageError
from glmae.scans.case import Case
from glmae.scans.cases import find_cases
from glmae.scans.classes import IGNORE
from glmae.scans.preparation import Normalization, Preparation, prepare_image, prepare_label
from glmae.scans.store import MappedArray, ScanStore

PREPARATION = Preparation((1.0, 1.0, 1.0), (Normalization("zscore"),))
NAMES = ("hippocampus_003", "hippocampus_039", "hippocampus_057")


@pytest.fixture
def job(samples):
    return find_cases(samples / "images", samples / "labels", NAMES)


def test_holds_the_prepared_scans(folder, job, scan, label, events, heard):
    cases, table = job
    store = ScanStore.prepare(folder, cases, PREPARATION, table, events)
    assert len(store) == 3
    assert store.names == NAMES
    prepared, grid = prepare_image([scan], PREPARATION)
    image = store.image(0)
    assert image.dtype == np.float16
    np.testing.assert_allclose(np.asarray(image, dtype=np.float32), prepared, atol=5e-3)
    np.testing.assert_array_equal(store.label(0), prepare_label(label, grid))
    assert store.grid(0) == grid
    assert store.annotated(0) == (True, True)
    progress = [event for event in heard if event["event"] == "progress"]
    assert progress[-1]["done"] == progress[-1]["total"] == 3


def test_scans_stay_on_disk(folder, job):
    cases, table = job
    store = ScanStore.prepare(folder, cases, PREPARATION, table)
    for array in (store.image(0), store.label(0)):
        base = array
        while base is not None and not isinstance(base, np.memmap):
            base = base.base
        assert isinstance(base, np.memmap)
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0


def test_second_call_does_only_what_is_missing(folder, job):
    cases, table = job
    ScanStore.prepare(folder, cases[:2], PREPARATION, table)
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    store = ScanStore.prepare(folder, cases, PREPARATION, table)
    assert all((folder / name).stat().st_mtime_ns == time for name, time in before.items())
    assert len(list(folder.iterdir())) == 12
    # As after a kill between two files: the description, written last, or the array is missing.
    for kind in ("image", "label"):
        whole = {path.name: path.read_bytes() for path in folder.iterdir()}
        name = store.entries[1][kind]
        for lost in (folder / f"{name}.{kind}.json", folder / f"{name}.{kind}.npy"):
            lost.unlink()
            again = ScanStore.prepare(folder, cases, PREPARATION, table)
            assert {path.name: path.read_bytes() for path in folder.iterdir()} == whole
            np.testing.assert_array_equal(again.image(1), store.image(1))


def test_a_corrected_label_leaves_the_image_as_it_is(folder, job, save, scan, label):
    _, table = job
    case = Case("a", (save(scan, "a.nrrd"),), save(label, "a_label.nrrd"))
    first = ScanStore.prepare(folder, [case], PREPARATION, table)
    image = folder / f"{first.key(0)}.image.npy"
    written = image.stat().st_mtime_ns
    save(sitk.Cast(label == 1, sitk.sitkUInt8), "a_label.nrrd")
    second = ScanStore.prepare(folder, [case], PREPARATION, table)
    assert second.key(0) == first.key(0)
    assert image.stat().st_mtime_ns == written
    assert second.entries[0]["label"] != first.entries[0]["label"]
    assert second.annotated(0) != first.annotated(0)


def test_changes_are_noticed(folder, job, save, scan, label):
    _, table = job
    case = Case("a", (save(scan, "a.nrrd"),), save(label, "a_label.nrrd"))
    there = folder / "store"
    first = ScanStore.prepare(there, [case], PREPARATION, table)
    before = first.label(0).sum()
    save(sitk.Cast(label == 1, sitk.sitkUInt8), "a_label.nrrd")
    second = ScanStore.prepare(there, [case], PREPARATION, table)
    assert second.label(0).sum() < before
    assert second.annotated(0) == (True, False), "the second class is absent here, so it was not annotated"
    coarse = Preparation((2.0, 2.0, 2.0), PREPARATION.normalization)
    assert ScanStore.prepare(there, [case], coarse, table).image(0).shape == (1, 17, 26, 18)


def test_annotated_is_what_the_class_file_says(folder, job, save, scan, label):
    _, table = job
    image = save(scan, "a.nrrd")
    only_first = save(sitk.Cast(label == 1, sitk.sitkUInt8), "a_label.nrrd")
    for annotated, expected in (
        (None, (True, False)),
        (frozenset(table.names), (True, True)),  # the second was looked for and is not there
        (frozenset(table.names[:1]), (True, False)),
    ):
        store = ScanStore.prepare(folder / "store", [Case("a", (image,), only_first, annotated)], PREPARATION, table)
        assert store.annotated(0) == expected
    both = save(label, "b_label.nrrd")
    store = ScanStore.prepare(
        folder / "store", [Case("b", (image,), both, frozenset(table.names[1:]))], PREPARATION, table
    )
    assert store.annotated(0) == (False, True)
    assert set(np.unique(store.label(0))) == {0, 2, IGNORE}


def test_without_labels(folder, job, events):
    cases, _ = job
    store = ScanStore.prepare(folder, cases, PREPARATION, None, events)
    assert store.label(0) is None
    assert store.annotated(0) == ()
    assert not list(folder.glob("*.label.npy"))


def test_failures_are_skipped_or_raised(folder, job, events, heard):
    cases, table = job
    broken = folder / "broken.nii.gz"
    broken.write_text("not a scan", encoding="utf-8")
    mixed = [cases[0], Case("broken", (broken,)), Case("gone", (folder / "gone.nii.gz",)), cases[1]]
    with pytest.raises(ScanError, match=r"broken\.nii\.gz"):
        ScanStore.prepare(folder / "store", mixed, PREPARATION, table)
    store = ScanStore.prepare(folder / "store", mixed, PREPARATION, None, events, read_failures="skip")
    assert store.names == (NAMES[0], NAMES[1])
    failed = [event for event in heard if event["event"] == "case"]
    assert [(event["case"], event["state"]) for event in failed] == [("broken", "failed"), ("gone", "failed")]
    assert "broken.nii.gz" in failed[0]["message"]
    with pytest.raises(RequestError, match="none of the scans"):
        ScanStore.prepare(folder / "store", mixed[1:3], PREPARATION, None, read_failures="skip")


def test_folder_that_cannot_be_written(folder, job):
    (folder / "file").touch()
    with pytest.raises(StorageError):
        ScanStore.prepare(folder / "file", job[0], PREPARATION, job[1])


def test_wrong_number_of_channels_names_the_case(folder, job):
    cases, table = job
    two = Preparation((1.0, 1.0, 1.0), (Normalization("zscore"),) * 2)
    with pytest.raises(ScanError, match=f"case {NAMES[0]}: the scan has 1 channels"):
        ScanStore.prepare(folder, cases, two, table)


def test_a_mapped_array_does_what_an_array_does(tmp_path):
    values = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    np.save(tmp_path / "values.npy", values)
    mapped = MappedArray(tmp_path / "values.npy")
    assert (mapped.shape, mapped.dtype, mapped.ndim, mapped.size) == (values.shape, values.dtype, 3, 24)
    assert np.array_equal(mapped, values)
    assert np.array_equal(mapped[1, :, 2:], values[1, :, 2:])
    assert np.array_equal((mapped > 3) & (mapped != 7), (values > 3) & (values != 7))
    assert np.asarray(mapped, dtype=np.float32).dtype == np.float32
    with pytest.raises(ValueError, match="read-only"):
        mapped[0][0, 0] = 1


def test_stopping_keeps_what_is_prepared_and_going_on_does_the_rest(folder, job, monkeypatch):
    cases, table = job
    monkeypatch.setattr("glmae.prefetch.os.cpu_count", lambda: 1)  # else all three are under way by then
    asked = iter([True])
    with pytest.raises(Stopped, match=r"scan 1 of 3; continue with --resume"):
        ScanStore.prepare(folder, cases, PREPARATION, table, should_stop=lambda: next(asked))
    done = {path.name: path.stat().st_mtime_ns for path in folder.glob("*.json")}
    assert 1 <= len(list(folder.glob("*.image.json"))) < 3
    store = ScanStore.prepare(folder, cases, PREPARATION, table)
    assert store.names == NAMES
    assert all((folder / name).stat().st_mtime_ns == time for name, time in done.items())


def test_several_threads_prepare_what_one_prepares(folder, job, monkeypatch):
    cases, table = job
    stores = []
    for threads in (1, 4):
        monkeypatch.setattr("glmae.prefetch.os.cpu_count", lambda n=threads: n)
        stores.append(ScanStore.prepare(folder / str(threads), cases, PREPARATION, table))
    one, four = stores
    assert one.names == four.names == NAMES
    assert one.channels == four.channels == 1
    for index in range(3):
        np.testing.assert_array_equal(one.image(index), four.image(index))
        np.testing.assert_array_equal(one.label(index), four.label(index))
