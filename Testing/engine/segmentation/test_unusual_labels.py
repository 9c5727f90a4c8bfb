"""Data as they come: partly labeled, overlapping, one class, fifty, a missing channel, a coarse scan among fine ones.

Each goes the whole way through fine-tuning in a step or two, or is refused in a clear sentence.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from glmae.errors import GLMAEError
from glmae.events import recorded
from glmae.scans.cases import find_cases
from glmae.scans.geometry import Geometry
from glmae.scans.measurement import measure
from glmae.scans.preparation import plan_preparation
from glmae.scans.store import ScanStore
from glmae.segmentation.batch import segment
from glmae.segmentation.finetuning import finetune

NAMES = ("hippocampus_003", "hippocampus_039", "hippocampus_207")


@pytest.fixture
def few_scans(fine_scans):
    return fine_scans


def train(folder: Path, out: Path, events: list[dict] | None = None, steps: int = 1) -> Path:
    return finetune(
        images=folder / "images",
        labels=folder / "labels",
        out=out,
        backbone="none",
        steps=steps,
        device="cpu",
        settings={"crop": (24, 32, 24), "batch": 1, "start_steps": 20, "start_crops": 1},
        events=recorded([] if events is None else events),
    ).folder


def edit(path: Path, change) -> None:
    """Change the voxels [K, J, I] of a file in place."""
    image = sitk.ReadImage(str(path))
    changed = sitk.GetImageFromArray(change(sitk.GetArrayFromImage(image)))
    Geometry.of(image).place(changed)
    sitk.WriteImage(changed, str(path))


def say(folder: Path, **more) -> None:
    """Add to the class file."""
    path = folder / "labels" / "classes.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | more), encoding="utf-8")


def seen_by_training(folder: Path, store: Path, spacing: float) -> list[object]:
    """All that fine-tuning derives from labels: fingerprint, prepared labels, which classes were drawn."""
    cases, table = find_cases(folder / "images", folder / "labels")
    fingerprint = measure(cases, table)
    preparation = replace(plan_preparation(fingerprint, 10**9), spacing=(spacing,) * 3)
    prepared = ScanStore.prepare(store, cases, preparation, table)
    drawn = [prepared.annotated(number) for number in range(len(prepared))]
    return [fingerprint, drawn, *(np.asarray(prepared.label(number)).tolist() for number in range(len(prepared)))]


@pytest.mark.parametrize("spacing", [1.0, 2.3])
def test_what_was_not_labeled_reaches_no_part_of_training(few_scans, tmp_path, spacing):
    """Outside of slices, box or mask, and in classes that were not drawn, the label files may hold anything."""
    slices = list(range(5, 30, 5))
    scan = sitk.ReadImage(str(few_scans / "images" / f"{NAMES[2]}.nii.gz"))
    mask = np.indices(tuple(reversed(scan.GetSize())))[2] > 15
    saved = sitk.GetImageFromArray(mask.astype(np.uint8))
    Geometry.of(scan).place(saved)
    sitk.WriteImage(saved, str(few_scans / "mask.nrrd"))
    say(
        few_scans,
        region={
            NAMES[0]: {"slices": {"axis": "k", "indices": slices}},
            NAMES[1]: {"box": [[5, 30], [6, 31], [7, 32]]},
            NAMES[2]: {"mask": str(few_scans / "mask.nrrd")},
        },
        annotated={NAMES[2]: [1]},
    )
    before = seen_by_training(few_scans, tmp_path / "first", spacing)

    def scribbled(known):
        def change(voxels):
            noise = np.random.default_rng(0).integers(0, 3, voxels.shape)
            return np.where(known(voxels), voxels, noise).astype(voxels.dtype)

        return change

    def inside_box(voxels):
        inside = np.zeros(voxels.shape, dtype=bool)
        inside[7:32, 6:31, 5:30] = True
        return inside

    known = {
        NAMES[0]: lambda voxels: np.isin(np.indices(voxels.shape)[0], slices),
        NAMES[1]: inside_box,
        NAMES[2]: lambda voxels: mask,
    }
    for name, inside in known.items():
        edit(few_scans / "labels" / f"{name}.nii.gz", scribbled(inside))
    assert seen_by_training(few_scans, tmp_path / "second", spacing) == before
    for name in known:
        edit(few_scans / "labels" / f"{name}.nii.gz", lambda v: np.where(v == 1, 0, 1).astype(v.dtype))
    after = seen_by_training(few_scans, tmp_path / "third", spacing)
    assert all(one != other for one, other in zip(before[2:], after[2:], strict=True)), "what was labeled does matter"


def test_region_without_a_voxel_is_refused(few_scans, tmp_path):
    mask = sitk.ReadImage(str(few_scans / "images" / f"{NAMES[0]}.nii.gz")) * 0
    sitk.WriteImage(mask, str(tmp_path / "nothing.nii.gz"))
    say(few_scans, region={NAMES[0]: {"mask": str(tmp_path / "nothing.nii.gz")}})
    with pytest.raises(GLMAEError, match=f"`region` of case {NAMES[0]} is empty; "):
        train(few_scans, tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_training_names_entries_of_the_class_file_that_belong_to_no_case(few_scans, tmp_path):
    """A misspelled case would be trained on as if it had been labeled all over."""
    region = {NAMES[0].upper(): {"box": [[0, 9], [0, 9], [0, 9]]}}
    say(few_scans, region=region, annotated={NAMES[1]: [1, 2], "hippocampus_2077": [1]})
    events: list[dict] = []
    train(few_scans, tmp_path / "model", events)
    said = [event["message"] for event in events if event.get("check") == "class_file"]
    assert len(said) == 2
    assert all(word in said[0] for word in ("`annotated`", "hippocampus_2077", f"{NAMES[2]}?"))
    assert all(word in said[1] for word in ("`region`", NAMES[0].upper()))


def test_one_class_in_one_scan(few_scans, tmp_path):
    for name in NAMES[1:]:
        (few_scans / "labels" / f"{name}.nii.gz").unlink()
    edit(few_scans / "labels" / f"{NAMES[0]}.nii.gz", lambda v: (v == 1).astype(v.dtype))
    out = train(few_scans, tmp_path / "model")
    assert [entry["value"] for entry in json.loads((out / "model.json").read_text(encoding="utf-8"))["classes"]] == [1]


def test_fifty_classes(few_scans, tmp_path):
    (few_scans / "labels" / "classes.json").unlink()

    def blocks(voxels):
        i, j, k = (np.minimum(n // 7, 3) for n in np.indices(voxels.shape))
        values = 16 * i + 4 * j + k
        return np.where(values <= 50, values, 0).astype(np.uint8)

    for name in NAMES:
        edit(few_scans / "labels" / f"{name}.nii.gz", blocks)
    out = train(few_scans, tmp_path / "model")
    assert len(json.loads((out / "model.json").read_text(encoding="utf-8"))["classes"]) == 50
    scan = few_scans / "images" / f"{NAMES[0]}.nii.gz"
    assert segment(model=out, images=[scan], out=tmp_path / "out", device="cpu") == []


def test_overlapping_segments_are_named_and_trained_on(few_scans, tmp_path):
    image = sitk.ReadImage(str(few_scans / "images" / f"{NAMES[0]}.nii.gz"))
    masks = np.zeros((*reversed(image.GetSize()), 2), dtype=np.uint8)
    masks[5:25, 5:25, 5:25, 0] = masks[10:15, 10:15, 10:15, 1] = 1
    voxels = sitk.GetImageFromArray(masks, isVector=True)
    Geometry.of(image).place(voxels)
    for number, title in enumerate(("organ", "tumor")):
        for key, text in {"Name": title, "LabelValue": "1", "Layer": str(number)}.items():
            voxels.SetMetaData(f"Segment{number}_{key}", text)
    shutil.rmtree(few_scans / "labels")
    (few_scans / "labels").mkdir()
    sitk.WriteImage(voxels, str(few_scans / "labels" / f"{NAMES[0]}.seg.nrrd"))
    events: list[dict] = []
    train(few_scans, tmp_path / "model", events)
    said = [event["message"] for event in events if event["event"] == "warning"]
    assert sum("'organ' and 'tumor' overlap" in message for message in said) == 1, said


def test_a_case_that_lacks_a_channel_is_trained_on_and_named(few_scans, tmp_path):
    """T1 is missing in one scan, so that the other one gives its grid, and must not be taken for the T1."""
    for name in NAMES:
        folder = few_scans / "images" / name
        folder.mkdir()
        (few_scans / "images" / f"{name}.nii.gz").rename(folder / "T2.nii.gz")
        if name != NAMES[1]:
            shutil.copy(folder / "T2.nii.gz", folder / "T1.nii.gz")
            edit(folder / "T1.nii.gz", lambda voxels: -voxels.astype(np.float32))
    cases, table = find_cases(few_scans / "images", few_scans / "labels")
    assert [case.missing for case in cases] == [(), (0,), ()]
    fingerprint = measure(cases, table)
    store = ScanStore.prepare(tmp_path / "store", cases, plan_preparation(fingerprint, 10**9), table)
    assert not store.image(1)[0].any()
    assert store.image(1)[1].astype(np.float32).std() == pytest.approx(1, abs=0.2)
    assert fingerprint.channels[0].mean < 0 < fingerprint.channels[1].mean, "of the two scans that have it"
    events: list[dict] = []
    train(few_scans, tmp_path / "model", events)
    said = [event["message"] for event in events if event.get("check") == "channels"]
    assert len(said) == 1
    assert f"case {NAMES[1]} has no T1" in said[0]


def test_a_case_of_other_channels_is_refused(few_scans, tmp_path):
    for name in NAMES:
        (few_scans / "images" / name).mkdir()
        (few_scans / "images" / f"{name}.nii.gz").rename(few_scans / "images" / name / "T1.nii.gz")
        if name != NAMES[1]:
            shutil.copy(few_scans / "images" / name / "T1.nii.gz", few_scans / "images" / name / "T2.nii.gz")
    (few_scans / "images" / NAMES[1] / "T1.nii.gz").rename(few_scans / "images" / NAMES[1] / "flair.nii.gz")
    with pytest.raises(GLMAEError, match=f"{NAMES[1]} .*1 channel .*T1 and T2"):
        train(few_scans, tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_one_scan_of_five_millimeters_among_fine_ones(few_scans, tmp_path):
    for kind, interpolator in (("images", sitk.sitkLinear), ("labels", sitk.sitkNearestNeighbor)):
        path = few_scans / kind / f"{NAMES[0]}.nii.gz"
        image = sitk.ReadImage(str(path))
        grid = Geometry.of(image).resized((1.0, 1.0, 5.0))
        sitk.WriteImage(
            sitk.Resample(image, grid.image(np.zeros(grid.size[::-1], np.uint8)), sitk.Transform(), interpolator),
            str(path),
        )
    out = train(few_scans, tmp_path / "model")
    spacing = json.loads((out / "model.json").read_text(encoding="utf-8"))["preprocessing"]["spacing"]
    assert len(set(spacing)) == 1
    assert spacing[0] < 1, "as of the fine ones alone, which are smaller than a crop"
    scan = few_scans / "images" / f"{NAMES[0]}.nii.gz"
    assert segment(model=out, images=[scan], out=tmp_path / "out", file_format="nii.gz", device="cpu") == []
    result = sitk.ReadImage(str(tmp_path / "out" / f"{NAMES[0]}.nii.gz"))
    assert Geometry.of(result).same_grid(Geometry.of(sitk.ReadImage(str(scan))))
