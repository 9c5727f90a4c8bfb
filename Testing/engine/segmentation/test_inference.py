"""Segmenting: the same result in every orientation, several channels, nothing written over."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from scipy.spatial.transform import Rotation
from voxelwise import class_probabilities

from development.overview import overview_of_folders
from glmae.errors import RequestError, Stopped
from glmae.events import recorded, silent
from glmae.scans.cases import find_images
from glmae.scans.geometry import Geometry
from glmae.scans.normalization import Normalization
from glmae.scans.preparation import Preparation
from glmae.segmentation import inference
from glmae.segmentation.atlas_fusion import Atlas, AtlasFusion
from glmae.segmentation.batch import segment
from glmae.segmentation.finetuning import finetune
from glmae.segmentation.inference import read_scan, segment_case
from glmae.segmentation.model import load_model
from glmae.segmentation.result import Result

NAME = "hippocampus_057"


def segmented(model, image: sitk.Image, folder) -> sitk.Image:
    folder.mkdir()
    sitk.WriteImage(image, str(folder / "scan.nrrd"))
    segment(model=model, images=[folder / "scan.nrrd"], out=folder, file_format="nii.gz", device="cpu")
    return sitk.ReadImage(str(folder / "scan.nii.gz"))


def test_left_stays_left_in_every_orientation(trained_model, sample_scans, tmp_path):
    """Anterior and posterior, left and right: the same places of the world get the same class, voxel for voxel."""
    scan = sitk.ReadImage(str(sample_scans / "images" / f"{NAME}.nii.gz"))
    results = {}
    for code in ("RAS", "LAS", "LPS", "PIR"):
        turned = sitk.DICOMOrient(scan, code)
        result = segmented(trained_model, turned, tmp_path / code)
        assert result.GetSize() == turned.GetSize()
        np.testing.assert_allclose(result.GetDirection(), turned.GetDirection(), atol=1e-6)
        np.testing.assert_allclose(result.GetOrigin(), turned.GetOrigin(), atol=1e-3)
        results[code] = sitk.GetArrayFromImage(sitk.DICOMOrient(result, "RAS"))
    assert set(np.unique(results["RAS"])) == {0, 1, 2}
    for code in ("LAS", "LPS", "PIR"):
        np.testing.assert_array_equal(results[code], results["RAS"])
    mirrored = sitk.Flip(sitk.DICOMOrient(scan, "RAS"), (True, False, False), False)
    mirrored.CopyInformation(sitk.DICOMOrient(scan, "RAS"))
    other = sitk.GetArrayFromImage(segmented(trained_model, mirrored, tmp_path / "mirrored"))
    assert not np.array_equal(other, results["RAS"]), "this test would notice a swap"


def test_scans_on_both_sides_of_45_degrees_are_seen_alike(untrained_model, sample_scans, tmp_path):
    """The order of axes is that of the model, not the nearest of each scan; the result lies on the scan's own grid."""
    model = tmp_path / "model"
    shutil.copytree(untrained_model, model)
    card = json.loads((model / "model.json").read_text(encoding="utf-8"))
    mean = Rotation.from_euler("z", 44, degrees=True).as_matrix()
    card["preprocessing"]["axes"] = {"directions": mean.reshape(-1).tolist(), "thick": None}
    (model / "model.json").write_text(json.dumps(card), encoding="utf-8")
    results = {}
    for angle in (40, 50):
        scan = sitk.ReadImage(str(sample_scans / "images" / f"{NAME}.nii.gz"))
        scan.SetDirection(Rotation.from_euler("z", angle, degrees=True).as_matrix().reshape(-1).tolist())
        scan.SetSpacing((1.0, 1.0, 1.8))
        result = segmented(model, scan, tmp_path / str(angle))
        assert Geometry.of(result).same_grid(Geometry.of(scan), 1e-3)
        results[angle] = sitk.GetArrayFromImage(result)
    assert len(np.unique(results[40])) > 1
    # Equal but for ties within rounding, of which a network that nobody trained has many.
    assert np.mean(results[40] != results[50]) < 0.02


def test_left_and_right_are_learned_as_such(sample_scans, tmp_path):
    """One structure on each side, told apart by place alone; trained in two orientations, found in four."""
    for kind in ("images", "labels"):
        (tmp_path / kind).mkdir()
    for name, code in (("hippocampus_039", "LPS"), ("hippocampus_207", "PIR")):
        scan = sitk.ReadImage(str(sample_scans / "images" / f"{name}.nii.gz"))
        label = sitk.DICOMOrient(sitk.ReadImage(str(sample_scans / "labels" / f"{name}.nii.gz")) > 0, "RAS")
        half = label.GetSize()[0] // 2
        sides = sitk.GetArrayFromImage(label)
        sides[:, :, half:] *= 2  # I points to the right
        drawn = sitk.GetImageFromArray(sides)
        drawn.CopyInformation(label)
        sitk.WriteImage(sitk.DICOMOrient(scan, code), str(tmp_path / "images" / f"{name}.nrrd"))
        sitk.WriteImage(sitk.DICOMOrient(drawn, code), str(tmp_path / "labels" / f"{name}.nrrd"))
    (tmp_path / "labels" / "classes.json").write_text(
        '{"classes": [{"value": 1, "name": "left part"}, {"value": 2, "name": "right part"}]}', encoding="utf-8"
    )
    common = {"images": tmp_path / "images", "labels": tmp_path / "labels", "backbone": "none", "device": "cpu"}
    coarse = Preparation((1.5, 1.5, 1.5), (Normalization("zscore"),))
    model = finetune(**common, out=tmp_path / "model", steps=20, preparation=coarse, settings={"start_crops": 1}).folder
    scan = sitk.ReadImage(str(sample_scans / "images" / f"{NAME}.nii.gz"))
    label = sitk.ReadImage(str(sample_scans / "labels" / f"{NAME}.nii.gz"))
    drawn = sitk.GetArrayFromImage(sitk.DICOMOrient(label, "RAS")) > 0
    for code in ("RAS", "LAS", "LPS", "PIR"):
        found = sitk.DICOMOrient(segmented(model, sitk.DICOMOrient(scan, code), tmp_path / code), "RAS")
        found_there = np.where(drawn, sitk.GetArrayFromImage(found), 0)
        for value, outer in ((1, slice(None, 12)), (2, slice(-12, None))):  # a third of the scan on either side
            counts = np.bincount(found_there[:, :, outer].ravel(), minlength=3)
            assert counts[value] > 50
            assert counts[3 - value] < 0.02 * counts[value]


def test_several_channels(few_scans, tmp_path):
    """Two channels of other grids and orientations; a scan with one channel is refused by name."""
    images = tmp_path / "images"
    for path in (few_scans / "images").glob("*.nii.gz"):
        folder = images / path.name.removesuffix(".nii.gz")
        folder.mkdir(parents=True)
        shutil.copy(path, folder / "1 T1.nii.gz")
        second = sitk.DICOMOrient(sitk.ReadImage(str(path)), "PIR")
        sitk.WriteImage(sitk.Cast(second, sitk.sitkFloat32) * 3, str(folder / "2 T2.nrrd"))
    model = finetune(
        images=images,
        labels=few_scans / "labels",
        out=tmp_path / "model",
        backbone="none",
        steps=2,
        device="cpu",
        settings={"crop": (24, 32, 24), "start_steps": 20, "start_crops": 1},
    ).folder
    events: list[dict] = []
    assert segment(model=model, images=[images], out=tmp_path / "out", device="cpu") == []
    assert len(list((tmp_path / "out").glob("*.seg.nrrd"))) == 3
    single = few_scans / "images" / "hippocampus_003.nii.gz"
    failed = segment(model=model, images=[single], out=tmp_path / "other", device="cpu", events=recorded(events))
    assert failed == ["hippocampus_003"]
    (failure,) = [event for event in events if event.get("state") == "failed"]
    assert (failure["case"], failure["name"]) == ("hippocampus_003", "ScanError")
    assert re.search(r"\b1 channel.*\b2\b", failure["message"])
    assert not (tmp_path / "other" / "hippocampus_003.seg.nrrd").exists()


def test_stopping_keeps_what_is_finished(trained_model, sample_scans, tmp_path):
    scans = sorted((sample_scans / "images").glob("*.nii.gz"))[:3]

    def first_is_there() -> bool:
        return len(list(tmp_path.glob("*.seg.nrrd"))) >= 1

    with pytest.raises(Stopped) as caught:
        segment(model=trained_model, images=scans, out=tmp_path, device="cpu", should_stop=first_is_there)
    # The first is written while the second is in work.
    count = len(list(tmp_path.glob("*.*")))
    assert 1 <= count < 3
    assert f"after {count} of 3" in str(caught.value)


def test_no_scans(trained_model, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(RequestError, match="no scans"):
        segment(model=trained_model, images=[tmp_path / "empty"], out=tmp_path / "out", device="cpu")
    assert not (tmp_path / "out").exists()


def test_results_go_to_a_folder_where_no_scan_has_their_name(trained_model, sample_scans, tmp_path):
    scan = Path(shutil.copy(sample_scans / "images" / f"{NAME}.nii.gz", tmp_path))
    before = scan.read_bytes()
    with pytest.raises(RequestError, match="name of the scan"):
        segment(model=trained_model, images=[scan], out=tmp_path, file_format="nii.gz", device="cpu")
    with pytest.raises(RequestError, match="is a file"):
        segment(model=trained_model, images=[scan], out=scan, device="cpu")
    assert scan.read_bytes() == before
    assert segment(model=trained_model, images=[scan], out=tmp_path, device="cpu") == []
    assert sorted(path.name for path in tmp_path.glob("*.*")) == [f"{NAME}.nii.gz", f"{NAME}.seg.nrrd"]


def test_the_overview_is_a_picture(sample_scans, tmp_path):
    shutil.copytree(sample_scans / "labels", tmp_path / "predictions")
    (tmp_path / "predictions" / "classes.json").unlink()
    path = tmp_path / "overview.png"
    overview_of_folders(
        path, "Heading", sample_scans / "images", tmp_path / "predictions", sample_scans / "labels", {"cases": []}
    )
    picture = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    assert picture.shape[0] > 600
    assert picture.shape[1] > 900
    # The colors of both classes are in it.
    rgb = picture[:, :, :3].reshape(-1, 3).astype(int)
    for color in ((230, 143, 61), (76, 158, 219)):
        assert (np.abs(rgb - color).max(axis=1) < 12).sum() > 300


def probabilities(model, case) -> tuple[np.ndarray, Result]:
    slabs: list[np.ndarray] = []
    result = segment_case(model, case, torch.device("cpu"), on_slab=lambda slab: slabs.append(slab.probabilities()))
    return np.concatenate(slabs, axis=3), result


def test_a_first_result_that_is_kept_gives_what_one_made_again_gives(untrained_model, sample_scans, monkeypatch):
    """The labels move to the first result and shape it: whether its probabilities are kept must not show."""
    cpu = torch.device("cpu")
    model = load_model(untrained_model, cpu)
    (case,) = find_images([sample_scans / "images" / f"{NAME}.nii.gz"])
    plain, result = probabilities(model, case)
    numbers = plain.argmax(axis=0)
    doubts = {value: (1 - plain[value].astype(float))[numbers == value].mean() for value in np.unique(numbers) if value}
    assert result.uncertainty == pytest.approx(doubts, abs=1e-3)
    scan = read_scan(model, case, silent())
    first = class_probabilities(model.network, scan.image, model.config.crop, cpu).argmax(axis=0).astype(np.uint8)
    atlas = Atlas(np.ascontiguousarray(first[::3, ::3, ::3]), (3.0, 3.0, 3.0), (True, True))
    fused = replace(model, atlases=AtlasFusion((atlas,)))
    kept, of_kept = probabilities(fused, case)
    monkeypatch.setattr(inference, "KEPT_BYTES", 0)
    again, of_again = probabilities(fused, case)
    assert not np.array_equal(plain, kept), "the labels do shape the result"
    np.testing.assert_array_equal(kept, again)
    assert of_kept.uncertainty == of_again.uncertainty
