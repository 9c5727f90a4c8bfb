"""The label check on real scans with one thing wrong at a time: it is found, named, and nothing else is said."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from glmae.errors import ScanError
from glmae.scans.case import Case
from glmae.scans.cases import find_cases
from glmae.scans.channels import compare_channels
from glmae.scans.classes import IGNORE, ClassTable, SegmentClass
from glmae.scans.geometry import Geometry
from glmae.scans.label_check import warn_of_labels
from glmae.scans.label_comparison import similar
from glmae.scans.labels import read_label
from glmae.scans.region import Region
from glmae.scans.segmentation_file import write_segmentation
from glmae.segmentation.requirements import inspect_folders

CASES = 5


@pytest.fixture
def data(folder, samples):
    """Folder with `images` and `labels` of a few real cases."""
    names = [path.name for path in sorted((samples / "images").glob("*.nii.gz"))][:CASES]
    for kind in ("images", "labels"):
        (folder / kind).mkdir()
        for name in names:
            shutil.copy(samples / kind / name, folder / kind)
    shutil.copy(samples / "labels" / "classes.json", folder / "labels")
    return folder


@pytest.fixture
def names(data):
    return [path.name.removesuffix(".nii.gz") for path in sorted((data / "images").iterdir())]


def check(data, **more):
    return inspect_folders(data / "images", data / "labels", **more).findings


def edit(data, name, change, kind="labels"):
    """Change the voxels [K, J, I] of a file in place."""
    path = data / kind / f"{name}.nii.gz"
    image = sitk.ReadImage(str(path))
    voxels = sitk.GetArrayFromImage(image)
    voxels = change(voxels)
    changed = sitk.GetImageFromArray(voxels)
    Geometry.of(image).place(changed)
    sitk.WriteImage(changed, str(path))
    return voxels


def say(data, region):
    """A class file that says nothing but which part was labeled."""
    (data / "labels" / "classes.json").write_text(json.dumps({"region": region}), encoding="utf-8")


def as_segments(data, name, table):
    """Replace a label map by a Slicer segmentation with these classes."""
    path = data / "labels" / f"{name}.nii.gz"
    write_segmentation(data / "labels" / f"{name}.seg.nrrd", sitk.ReadImage(str(path), sitk.sitkUInt8), table)
    path.unlink()


def only(findings, kind):
    """The one finding there is; it is of this kind."""
    assert [finding.check for finding in findings] == [kind], [finding.message for finding in findings]
    return findings[0]


def test_good_labels_are_not_complained_of(data, samples):
    assert check(data) == []
    assert inspect_folders(samples / "images", samples / "labels").findings == []


def test_few_voxels(data, names):
    def shrink(voxels):
        keep = np.argwhere(voxels == 2)[:20]
        voxels[voxels == 2] = 0
        voxels[tuple(keep.T)] = 2
        return voxels

    edit(data, names[0], shrink)
    findings = {finding.check: finding for finding in check(data)}
    assert set(findings) == {"few_voxels", "volume"}
    found = findings["few_voxels"]
    assert (found.severity, found.cases, found.classes) == ("warning", (names[0],), ("hippocampus posterior",))
    assert "20 voxels (20 mm3)" in found.message
    assert findings["volume"].cases == (names[0],)


def test_stray_island_is_located(data, names):
    voxels = edit(data, names[1], lambda v: v)
    middle = np.argwhere(voxels == 1).mean(axis=0)
    far = [0 if middle[axis] > voxels.shape[axis] / 2 else voxels.shape[axis] - 2 for axis in range(3)]

    def slip(voxels):
        voxels[far[0] : far[0] + 2, far[1] : far[1] + 2, far[2] : far[2] + 2] = 1
        return voxels

    edit(data, names[1], slip)
    found = only(check(data), "island")
    assert (found.cases, found.classes) == ((names[1],), ("hippocampus anterior",))
    assert "8 voxels" in found.message
    assert str([far[2] + 1, far[1] + 1, far[0] + 1]) in found.message


def test_class_of_many_parts_has_no_stray_islands(data, names):
    def lesions(voxels):
        voxels[:] = 0
        for start in range(2, 30, 7):
            voxels[start : start + 4, start : start + 4, start : start + 4] = 1
        return voxels

    edit(data, names[0], lesions)
    findings = check(data)
    assert findings
    assert not [finding for finding in findings if finding.check == "island"]


def test_volume_unlike_the_others(data, names):
    edit(data, names[2], lambda v: np.where((v == 1) & (np.indices(v.shape).sum(0) % 5 > 0), 0, v))
    found = next(finding for finding in check(data) if finding.check == "volume")
    assert (found.cases, found.classes) == ((names[2],), ("hippocampus anterior",))


def test_same_scan_twice(data, names):
    for kind in ("images", "labels"):
        shutil.copy(data / kind / f"{names[0]}.nii.gz", data / kind / "copy.nii.gz")
    found = only(check(data), "duplicate")
    assert found.cases == ("copy", names[0])
    assert "different labels" not in found.message
    edit(data, "copy", lambda v: np.where(np.indices(v.shape)[0] == np.argwhere(v)[0, 0], 0, v))
    assert "different labels" in only(check(data), "duplicate").message


def test_names_of_two_spellings(data, names):
    (data / "labels" / "classes.json").unlink()
    for name in names[3:]:
        for kind in ("images", "labels"):
            (data / kind / f"{name}.nii.gz").unlink()
    as_segments(data, names[0], ClassTable((SegmentClass(1, "Anterior horn"), SegmentClass(2, "posterior"))))
    as_segments(data, names[1], ClassTable((SegmentClass(1, "anterior  horn"), SegmentClass(2, "posterior"))))
    as_segments(data, names[2], ClassTable((SegmentClass(1, "anterior_hron"), SegmentClass(2, "posterior"))))
    findings = [finding for finding in check(data) if finding.check == "names"]
    assert [finding.severity for finding in findings] == ["warning", "note"]
    assert set(findings[0].classes) == {"Anterior horn", "anterior_hron"}
    assert set(findings[0].cases) == set(names[:3])
    assert set(findings[1].cases) == set(names[:2])


@pytest.mark.parametrize(
    ("first", "second", "alike"),
    [
        ("Liver", "liver ", True),
        ("left kidney", "left_kidney", True),
        ("left kidney", "kidney left", False),
        ("spleen", "splen", True),
        ("left kidney", "right kidney", False),
        ("lesion 1", "lesion 2", False),
        ("vertebra_L1", "vertebra_L2", False),
        ("kidney_l", "kidney_r", False),
        ("superior vena cava", "inferior vena cava", False),
        ("portal vein", "portal artery", False),
        ("Niere", "Leber", False),
        ("肝臓", "腎臓", False),
    ],
)
def test_similar_names(first, second, alike):
    assert similar(first, second) == alike == similar(second, first)


def test_names_held_by_one_case_are_two_structures(data, names):
    table = {"classes": [{"value": 1, "name": "hippocampus"}, {"value": 2, "name": "hippocampuss"}]}
    (data / "labels" / "classes.json").write_text(json.dumps(table), encoding="utf-8")
    assert check(data) == []


def test_class_that_no_case_holds_and_one_that_some_lack(data, names):
    named = [{"value": n, "name": name} for n, name in ((1, "front"), (2, "back"), (3, "tail"), (4, "fornix"))]
    content = {"classes": named, "annotated": {names[0]: [1, 2, 4], names[1]: [1, 2]}}
    (data / "labels" / "classes.json").write_text(json.dumps(content), encoding="utf-8")
    for name in names[1:3]:
        edit(data, name, lambda v: np.where(v == 2, 0, v))
    found = {(finding.severity, finding.classes, finding.cases) for finding in check(data) if finding.check == "absent"}
    assert found == {
        ("warning", ("tail",), ()),
        ("warning", ("fornix",), ()),
        ("note", ("back",), (names[2],)),  # names[1] says that it was looked for
    }


def test_empty_segment(data, names):
    (data / "labels" / "classes.json").unlink()
    table = ClassTable((SegmentClass(1, "label 1"), SegmentClass(2, "label 2"), SegmentClass(3, "tail")))
    as_segments(data, names[0], table)
    found = only(check(data), "empty")
    assert (found.cases, found.classes) == ((names[0],), ("tail",))


def test_every_third_slice_is_guessed_and_not_applied(data, names):
    voxels = edit(data, names[0], lambda v: np.where(np.indices(v.shape)[0] % 3 > 0, 0, v))
    found = only(check(data), "region")
    assert found.severity == "guess"
    slices = tuple(np.flatnonzero(voxels.any(axis=(1, 2))).tolist())
    assert found.region == Region(axis=2, slices=slices)
    cases, _ = find_cases(data / "images", data / "labels")
    assert all(case.region is None for case in cases), "a guess changes nothing"
    # What the message says can be pasted into classes.json, and then there is nothing left to guess.
    content = json.loads((data / "labels" / "classes.json").read_text(encoding="utf-8"))
    content |= json.loads(found.message[found.message.index("{") : found.message.rindex("}") + 1])
    (data / "labels" / "classes.json").write_text(json.dumps(content), encoding="utf-8")
    assert find_cases(data / "images", data / "labels")[0][0].region == found.region
    assert check(data) == []


def test_a_guess_is_confirmed_with_one_word_and_follows_the_labels(data, names):
    """`"labeled"` gives what the guessed entry gives, and goes on doing so when more slices are drawn."""

    def read() -> np.ndarray:
        cases, classes = find_cases(data / "images", data / "labels")
        return sitk.GetArrayFromImage(read_label(cases[0], None, classes))

    (data / "labels" / "classes.json").unlink()
    for step in (6, 3):
        complete = edit(data, names[0], lambda v: v.copy())
        edit(data, names[0], lambda v, step=step: np.where(np.indices(v.shape)[0] % step > 0, 0, v))
        region = only(check(data), "region").region
        say(data, {names[0]: region.to_json()})
        in_numbers = read()
        say(data, {names[0]: "labeled"})
        np.testing.assert_array_equal(read(), in_numbers)
        known = (read() != IGNORE).any(axis=(1, 2))
        assert np.flatnonzero(known).tolist() == list(region.slices)
        note = only(check(data), "region")
        assert note.severity == "note"
        assert f"only the {len(region.slices)} slices along K" in note.message
        (data / "labels" / "classes.json").unlink()
        edit(data, names[0], lambda v, complete=complete: complete)


def test_complete_labels_that_are_said_to_be_partial_stay_complete(data, names):
    say(data, {names[0]: "labeled"})
    cases, classes = find_cases(data / "images", data / "labels")
    assert not (sitk.GetArrayFromImage(read_label(cases[0], None, classes)) == IGNORE).any()
    assert "look complete" in only(check(data), "region").message


@pytest.mark.parametrize("axis", range(3))
def test_single_labeled_slice_is_guessed(data, names, axis):
    def one_slice(voxels):
        middle = int(np.argwhere(voxels)[:, 2 - axis].mean())
        return np.where(np.indices(voxels.shape)[2 - axis] != middle, 0, voxels)

    voxels = edit(data, names[0], one_slice)
    found = next(finding for finding in check(data) if finding.check == "region")
    assert found.region == Region(axis=axis, slices=(int(np.argwhere(voxels)[0, 2 - axis]),))


def test_labels_that_end_abruptly_are_guessed_as_a_box(data, names):
    def cut(voxels):
        where = np.argwhere(voxels)[:, 1]
        return np.where(np.indices(voxels.shape)[1] > (where.min() + where.max()) // 2, 0, voxels)

    voxels = edit(data, names[0], cut)
    found = next(finding for finding in check(data) if finding.check == "region")
    last = int(np.argwhere(voxels)[:, 1].max())
    assert found.region == Region(box=((0, voxels.shape[2]), (0, last + 1), (0, voxels.shape[0])))


def test_most_labels_that_end_so_are_drawn_so_by_convention(data, names):
    """As ventricles are to their base; a label that is cut elsewhere, too, is guessed as a box all the same."""

    def base(voxels):
        where = np.argwhere(voxels)[:, 1]
        return np.where(np.indices(voxels.shape)[1] > (where.min() + where.max()) // 2, 0, voxels)

    def side(voxels):
        where = np.argwhere(voxels)[:, 0]
        return np.where(np.indices(voxels.shape)[0] > (where.min() + where.max()) // 2, 0, voxels)

    def regions():
        return {finding.cases: finding.region for finding in check(data) if finding.check == "region"}

    for name in names[:2]:
        edit(data, name, base)
    assert set(regions()) == {(names[0],), (names[1],)}, "two of five"
    for name in names[2:4]:
        edit(data, name, base)
        # Stored in another order of voxels.
        for kind in ("images", "labels"):
            path = str(data / kind / f"{name}.nii.gz")
            sitk.WriteImage(sitk.DICOMOrient(sitk.ReadImage(path), "PIR"), path)
    assert regions() == {}, "four of five"
    voxels = edit(data, names[0], side)
    last = int(np.argwhere(voxels)[:, 0].max())
    size = voxels.shape[::-1]
    assert regions() == {(names[0],): Region(box=((0, size[0]), (0, size[1]), (0, last + 1)))}


def test_what_reading_adapts_is_a_finding(data, names, save):
    """Overlapping segments, and one that reaches out of the image."""
    grid = Geometry.of(sitk.ReadImage(str(data / "images" / f"{names[0]}.nii.gz")))
    (data / "labels" / "classes.json").unlink()
    (data / "labels" / f"{names[0]}.nii.gz").unlink()
    masks = np.zeros((*reversed(grid.size), 2), dtype=np.uint8)
    masks[5:20, 5:20, 5:20, 0] = masks[15:20, 15:20, -6:, 1] = masks[18:20, 18:20, 12:20, 1] = 1
    voxels = sitk.GetImageFromArray(masks, isVector=True)
    grid.part((4, 0, 0), grid.size).place(voxels)  # 4 voxels beyond the right border
    for number, title in enumerate(("label 1", "label 2")):
        for key, text in {"Name": title, "LabelValue": "1", "Layer": str(number)}.items():
            voxels.SetMetaData(f"Segment{number}_{key}", text)
    save(voxels, f"labels/{names[0]}.seg.nrrd")
    found = {finding.check: finding for finding in check(data)}
    assert found["overlap"].cases == found["outside"].cases == (names[0],)
    assert set(found["overlap"].classes) == {"label 1", "label 2"}


def test_label_elsewhere_is_an_error_that_names_the_lost_header(data, names, said, events, heard):
    for name in names[:2]:
        path = data / "labels" / f"{name}.nii.gz"
        image = sitk.ReadImage(str(path))
        image.SetOrigin((200.0, 0.0, 0.0))
        sitk.WriteImage(image, str(path))
    first, second = check(data)
    assert [first.cases, second.cases] == [(names[0],), (names[1],)]
    assert first.severity == second.severity == "error"
    assert "header had been lost" in first.message
    cases, table = find_cases(data / "images", data / "labels")
    with pytest.raises(ScanError) as caught:
        warn_of_labels(cases, table, events)
    said(caught, f"{names[0]}.nii.gz")
    warnings = [event for event in heard if event["event"] == "warning"]
    assert [event["case"] for event in warnings] == [names[1]], "the others are named, too"


def test_channel_that_one_case_lacks(data, names):
    for name in names:
        (data / "images" / name).mkdir()
        (data / "images" / f"{name}.nii.gz").rename(data / "images" / name / f"{name}_T1.nii.gz")
        if name != names[1]:
            shutil.copy(data / "images" / name / f"{name}_T1.nii.gz", data / "images" / name / f"{name}_T2.nii.gz")
    found = only(check(data), "channels")
    assert (found.severity, found.cases) == ("warning", (names[1],))
    assert f"case {names[1]} has no T2" in found.message
    assert "trained on all the same" in found.message
    (data / "images" / names[1] / f"{names[1]}_T1.nii.gz").rename(data / "images" / names[1] / "flair.nii.gz")
    shutil.copy(data / "images" / names[1] / "flair.nii.gz", data / "images" / names[1] / "T1.nii.gz")
    found = only(check(data), "channels")
    assert (found.severity, found.cases) == ("warning", (names[1],))
    assert "T1, flair" in found.message


def test_entries_of_the_class_file_that_belong_to_no_scan(data, names):
    content = json.loads((data / "labels" / "classes.json").read_text(encoding="utf-8"))
    content |= {
        "annotated": {names[0].replace("_", "-"): [1], names[1]: [1, 2]},
        "region": {"Frau Müller": {"box": [[0, 1], [0, 1], [0, 1]]}},
    }
    (data / "labels" / "classes.json").write_text(json.dumps(content), encoding="utf-8")
    findings = check(data, names=[names[1]])
    assert [finding.check for finding in findings] == ["class_file", "class_file"]
    assert f"did you mean {names[0]}?" in findings[0].message
    assert "Frau Müller" in findings[1].message


def test_folders_that_cannot_be_used_are_one_finding(data):
    found = only(inspect_folders(data / "images", data / "nothing").findings, "request")
    assert found.severity == "error"


def test_events(data, names, events, heard):
    edit(data, names[0], lambda v: np.where(np.indices(v.shape)[0] % 3 > 0, 0, v))
    cases, table = find_cases(data / "images", data / "labels")
    warn_of_labels(cases, table, events)
    warning = next(event for event in heard if event["event"] == "warning")
    assert warning["check"] == "region"
    assert warning["case"] == names[0]
    assert json.loads(json.dumps(warning)) == warning
    assert warning["region"]["slices"]["axis"] == "k"
    assert [event["stage"] for event in heard if event["event"] == "progress"] == ["check"] * (len(cases) + 1)


@pytest.mark.parametrize(("case", "file"), [("1", "T1"), ("1", "1_T1"), ("scan_1", "T1-scan_1"), ("a.b", "a.b T1")])
def test_channels_are_named_by_what_is_not_the_case(case, file):
    there = Case(case, tuple(Path("images") / case / f"{name}.nii.gz" for name in (file, file.replace("T1", "T2"))))
    other = Case("other", (Path("images/other/other_T1.nrrd"), Path("images/other/other_T2.nrrd")))
    assert list(compare_channels([there, other])) == []
    (found,) = compare_channels([other, there, Case("third", (Path("images/third/T2.nii.gz"),))])
    assert (found.cases, found.severity) == (("third",), "error")
    assert "T1 is missing" in found.message
