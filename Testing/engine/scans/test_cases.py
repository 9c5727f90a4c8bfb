from __future__ import annotations

import json
import shutil

import pytest
import SimpleITK as sitk

from glmae.errors import RequestError, ScanError
from glmae.scans.case import content_hash
from glmae.scans.cases import find_cases, find_images, find_labels
from glmae.scans.image import read_channels
from glmae.scans.labels import read_label

A, B, C = "hippocampus_003", "hippocampus_039", "hippocampus_057"


@pytest.fixture
def images(folder, samples):
    """Three real scans, with labels for the first two in `labels`."""
    (folder / "labels").mkdir()
    for name in (A, B, C):
        (folder / "images").mkdir(exist_ok=True)
        shutil.copy(samples / "images" / f"{name}.nii.gz", folder / "images")
        if name != C:
            shutil.copy(samples / "labels" / f"{name}.nii.gz", folder / "labels")
    return folder / "images"


@pytest.fixture
def labels(images):
    return images.parent / "labels"


def classes(path, **more):
    named = [{"value": 2, "name": "tail"}, {"value": 1, "name": "head"}, {"value": 3, "name": "other"}]
    path.write_text(json.dumps({"classes": named, **more}), encoding="utf-8")
    return path


def test_bundled_scans(samples):
    cases, table = find_cases(samples / "images", samples / "labels")
    assert len(cases) == 6
    assert [case.name for case in cases] == sorted(case.name for case in cases)
    assert all(case.label is not None and case.annotated is None for case in cases)
    assert table.names == ("hippocampus anterior", "hippocampus posterior")
    assert table.values == (1, 2)


def test_image_without_label_is_unlabeled(images, labels):
    cases, table = find_cases(images, labels)
    assert [(case.name, case.label is not None) for case in cases] == [(A, True), (B, True), (C, False)]
    assert table.names == ("label 1", "label 2")


def test_named_cases(images, labels, said):
    cases, _ = find_cases(images, labels, names=[B])
    assert [case.name for case in cases] == [B]
    with pytest.raises(RequestError, match="no label") as caught:
        find_cases(images, labels, names=[A, C])
    said(caught, C)
    with pytest.raises(RequestError, match=f"did you mean {A}") as caught:
        find_cases(images, labels, names=["hippocampus_0003"])
    said(caught, "hippocampus_0003")


def test_label_without_image(images, labels, said):
    (images / f"{A}.nii.gz").unlink()
    with pytest.raises(RequestError, match="no image") as caught:
        find_cases(images, labels)
    said(caught, labels / f"{A}.nii.gz")
    with pytest.raises(RequestError, match="no image"):
        find_cases(images, labels, names=[A])
    assert len(find_cases(images, labels, names=[B])[0]) == 1


def test_folders_that_are_not_there(images, labels, folder, said):
    for call, path in (
        (lambda: find_cases(folder / "gone", labels), folder / "gone"),
        (lambda: find_cases(images, folder / "gone"), folder / "gone"),
        (lambda: find_labels(folder / "gone"), folder / "gone"),
        (lambda: find_cases(images / f"{A}.nii.gz", labels), images / f"{A}.nii.gz"),
        (lambda: find_images([folder / "gone.nrrd"]), folder / "gone.nrrd"),
    ):
        with pytest.raises(RequestError) as caught:
            call()
        said(caught, path)


def test_empty_folders(folder, said):
    (folder / "empty").mkdir()
    (folder / "empty" / "notes.txt").write_text("none yet", encoding="utf-8")
    (folder / "empty" / ".hidden.nii.gz").touch()
    calls = (
        lambda: find_cases(folder / "empty", None),
        lambda: find_images([folder / "empty"]),
        lambda: find_labels(folder / "empty"),
    )
    for call in calls:
        with pytest.raises(RequestError, match="holds no") as caught:
            call()
        said(caught, folder / "empty")


def test_two_files_of_one_name(images, labels, scan, label, said):
    sitk.WriteImage(label, str(labels / f"{A}.nrrd"))
    with pytest.raises(RequestError, match="both called") as caught:
        find_cases(images, labels)
    said(caught, labels / f"{A}.nrrd")
    (images / A).mkdir()
    sitk.WriteImage(scan, str(images / A / "t1.nrrd"))
    with pytest.raises(RequestError, match="both called") as caught:
        find_cases(images, None)
    said(caught, images / f"{A}.nii.gz")


def test_channels_of_a_case(images, scan):
    (images / "two").mkdir()
    for name in ("2_flair.nii.gz", "1_t1.nrrd"):
        sitk.WriteImage(scan, str(images / "two" / name))
    (images / "two" / "readme.md").touch()
    (images / "nothing").mkdir()
    case = next(case for case in find_images([images]) if case.name == "two")
    assert [path.name for path in case.images] == ["1_t1.nrrd", "2_flair.nii.gz"]


def test_class_file(images, labels, folder):
    region = {B: {"box": [[0, 9], [0, 9], [0, 9]]}}
    classes(labels / "classes.json", annotated={A: [1, 3], "somewhere else": [2]}, region=region)
    cases, table = find_cases(images, labels)
    assert [(entry.value, entry.name) for entry in table] == [(1, "head"), (2, "tail"), (3, "other")]
    assert cases[0].annotated == {"head", "other"}
    assert cases[1].annotated is None
    assert cases[1].region.box == ((0, 9), (0, 9), (0, 9))
    _, table = find_cases(images, labels, names=[B])
    assert table.names == ("head", "tail"), "no case holds, or was searched for, the third"
    other = classes(folder / "mine.json")
    assert find_cases(images, labels, classes=other)[0][0].annotated is None


def test_class_file_lacks_a_value(images, labels, said):
    (labels / "classes.json").write_text(json.dumps({"classes": [{"value": 1, "name": "head"}]}), encoding="utf-8")
    with pytest.raises(ScanError, match="value 2") as caught:
        find_cases(images, labels)
    said(caught, labels / f"{A}.nii.gz")


def test_names_of_a_segmentation_come_first(images, labels, label):
    classes(labels / "classes.json")
    (labels / f"{A}.nii.gz").unlink()
    stored = sitk.Image(label)
    for number, (name, value) in enumerate((("Tail", 1), ("new", 2))):
        stored.SetMetaData(f"Segment{number}_Name", name)
        stored.SetMetaData(f"Segment{number}_LabelValue", str(value))
    sitk.WriteImage(stored, str(labels / f"{A}.seg.nrrd"))
    cases, table = find_cases(images, labels)
    # `tail` is 2 in the class file and 1 in the segmentation; `new` has to give way to it.
    assert {entry.name: entry.value for entry in table} == {"head": 1, "tail": 2, "new": 3}
    assert cases[0].label.name == f"{A}.seg.nrrd"


def test_bare_values_give_way_to_segments_and_are_still_understood(images, labels, label, scan):
    """One case is a segmentation in which 1 is the liver; in the other 1 has no name, so it is something else."""
    (labels / f"{A}.nii.gz").unlink()
    stored = sitk.Cast(label == 1, sitk.sitkUInt8)
    stored.SetMetaData("Segment0_Name", "liver")
    sitk.WriteImage(stored, str(labels / f"{A}.seg.nrrd"))
    cases, table = find_cases(images, labels)
    assert {entry.name: entry.value for entry in table} == {"liver": 1, "label 1": 3, "label 2": 2}
    numbers = sitk.GetArrayFromImage(read_label(cases[1], None, table))
    truth = sitk.GetArrayFromImage(sitk.ReadImage(str(cases[1].label)))
    assert table.names[numbers[truth == 1][0] - 1] == "label 1"
    assert table.names[numbers[truth == 2][0] - 1] == "label 2"
    assert not (numbers == table.find("liver")).any()


def test_segmentations_beside_the_images(images, label):
    stored = sitk.Image(label)
    stored.SetMetaData("Segment0_Name", "head")
    stored.SetMetaData("Segment1_Name", "tail")
    stored.SetMetaData("Segment1_LabelValue", "2")
    sitk.WriteImage(stored, str(images / f"{A}.seg.nrrd"))
    cases, table = find_cases(images, images)
    assert [(case.name, case.label is not None) for case in cases] == [(A, True), (B, False), (C, False)]
    assert table.names == ("head", "tail")


def test_find_labels(labels):
    cases, table = find_labels(labels)
    assert [(case.name, case.images) for case in cases] == [(A, ()), (B, ())]
    assert table.values == (1, 2)
    # One damaged file is named when it is read, and does not stop the others.
    (labels / f"{A}.nii.gz").write_bytes(b"damaged")
    cases, table = find_labels(labels)
    assert table.values == (1, 2)
    with pytest.raises(ScanError, match=A):
        read_label(cases[0], None, table)


def test_list_of_paths(images, folder, samples, said):
    listed = folder / "список.txt"
    listed.write_text(f"images/{A}.nii.gz\n\n{samples / 'images' / (B + '.nii.gz')}\n", encoding="utf-8-sig")
    assert [case.name for case in find_images([listed])] == [A, B]
    listed.write_text(f"images/{A}.nii.gz\nimages/gone.nii.gz\n", encoding="utf-8")
    with pytest.raises(RequestError, match="line 2: images/gone") as caught:
        find_images([listed])
    said(caught, listed)
    for line in ("x" * 100_000, "a\0b"):
        listed.write_text(line, encoding="utf-8")
        with pytest.raises(RequestError, match="line 1: ") as caught:
            find_images([listed])
        said(caught, listed)


def test_same_name_in_two_folders(images, samples, said):
    both = [images / f"{A}.nii.gz", samples / "images" / f"{A}.nii.gz"]
    with pytest.raises(RequestError, match="both called") as caught:
        find_images(both)
    said(caught, both[0])
    assert [case.name for case in find_images(both, unique=False)] == [A, f"{A} (2)"]
    assert len(find_images([both[0], images])) == 3, "the same file twice is one scan"


def test_file_that_is_no_scan(folder, said):
    path = folder / "report.pdf"
    path.touch()
    with pytest.raises(RequestError, match="no scan by its name") as caught:
        find_images([path])
    said(caught, path)


def test_the_hash_tells_the_content_whatever_the_name(images, scan):
    def digest(case):
        return content_hash(read_channels(case.images))

    first, second, *_ = find_images([images])
    assert len(digest(first)) == 64
    assert digest(second) != digest(first)
    other = images / "renamed.nrrd"
    sitk.WriteImage(scan, str(other))
    assert digest(find_images([other])[0]) == digest(first)


def test_named_cases_without_a_folder_of_labels(sample_scans):
    cases, table = find_cases(sample_scans / "images", None, ["hippocampus_057", "hippocampus_003"])
    assert [(case.name, case.label) for case in cases] == [("hippocampus_003", None), ("hippocampus_057", None)]
    assert len(table) == 0


def test_masks_of_regions_may_lie_among_the_labels(images, labels, samples):
    shutil.copy(samples / "labels" / f"{A}.nii.gz", labels / "mask of A.nii.gz")
    classes(labels / "classes.json", region={A: {"mask": "mask of A.nii.gz"}})
    cases, _ = find_cases(images, labels)
    assert [case.name for case in cases if case.label] == [A, B]
    assert [case.name for case in find_labels(labels)[0]] == [A, B]
    assert cases[0].region.mask == labels / "mask of A.nii.gz"
