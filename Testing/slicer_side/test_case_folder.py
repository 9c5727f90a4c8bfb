from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from scene_content import GRIDS, add_segmentation, add_volume, sample

from glmae.errors import RequestError, ScanError, StorageError
from glmae.scans.cases import find_cases as find_engine_cases
from GLMAESegmentationLib.jobs.case_folder import CaseFolder, export_cases
from GLMAESegmentationLib.messages import say
from GLMAESegmentationLib.scene.scene_cases import PARTLY_ATTRIBUTE, SceneCase, find_cases


@pytest.fixture
def labeled(scene: Any) -> Any:
    scan, label = sample()
    volume = add_volume(scan, GRIDS["oblique"], "Doe^Jane/1970: CT?")
    node = add_segmentation({"anterior": label == 1, "posterior": label == 2}, GRIDS["oblique"], "Doe labels")
    node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    return volume


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_layout_and_the_way_back(scene: Any, labeled: Any, job_folder: Path) -> None:
    scan, _ = sample("hippocampus_039")
    other = add_volume(scan, GRIDS["RAS"], "Doe^Jane/1970: CT?")  # names need not be unique in a scene
    folder = export_cases(find_cases(scene), job_folder)
    assert files(job_folder) == ["images/case-01.nrrd", "images/case-02.nrrd", "labels/case-01.seg.nrrd", "nodes.json"]
    assert [scene.GetNodeByID(case.volumes[0]) for case in folder.cases] == [labeled, other]
    again = CaseFolder.read(job_folder)
    assert again.cases == folder.cases
    assert [case.segmentation is None for case in again.cases] == [False, True]


def test_which_cases_were_labeled_in_part_goes_with_them(scene: Any, labeled: Any, job_folder: Path) -> None:
    scan, label = sample("hippocampus_039")
    volume = add_volume(scan, GRIDS["RAS"], "other")
    node = add_segmentation({"anterior": label == 1}, GRIDS["RAS"], "other labels")
    node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    node.SetAttribute(PARTLY_ATTRIBUTE, "1")
    folder = export_cases(find_cases(scene), job_folder)
    assert [case.partly for case in folder.cases] == [False, True]
    assert json.loads((folder.labels / "classes.json").read_text(encoding="utf-8")) == {
        "region": {"case-02": "labeled"}
    }
    assert CaseFolder.read(job_folder).cases == folder.cases
    cases, classes = find_engine_cases(folder.images, folder.labels)
    assert len(classes) == 2, "named by the labels"
    assert [case.region is not None for case in cases] == [False, True]


def test_no_node_name_in_file_names_or_headers(scene: Any, labeled: Any, job_folder: Path) -> None:
    export_cases(find_cases(scene), job_folder)
    for path in job_folder.rglob("*.nrrd"):
        assert b"Doe" not in path.read_bytes()
        assert "Doe" not in path.name


def test_channels_of_one_case(scene: Any, labeled: Any, job_folder: Path) -> None:
    scan, _ = sample()
    second = add_volume(scan + 7, GRIDS["oblique"], "T2")
    export_cases([SceneCase((labeled, second))], job_folder)
    assert files(job_folder) == ["images/case-01/channel-01.nrrd", "images/case-01/channel-02.nrrd", "nodes.json"]
    one, two = (sitk.ReadImage(str(job_folder / "images" / "case-01" / f"channel-0{n}.nrrd")) for n in (1, 2))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(one) + 7, sitk.GetArrayFromImage(two))


def test_a_case_that_fails_leaves_the_others(scene: Any, labeled: Any, job_folder: Path) -> None:
    scan, label = sample()
    folder = export_cases(find_cases(scene), job_folder)
    before = files(job_folder)
    second = add_volume(scan, GRIDS["RAS"], "second")
    empty = add_segmentation({"anterior": label * 0}, GRIDS["RAS"], "nothing drawn")
    with pytest.raises(ScanError, match="nothing drawn"):
        folder.add(SceneCase((second,), empty))
    assert files(job_folder) == before
    assert folder.add(SceneCase((second,))).name == "case-02"


def test_channels_of_a_case_that_fails_are_removed(scene: Any, labeled: Any, job_folder: Path) -> None:
    hollow = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "hollow")
    with pytest.raises(ScanError, match="hollow"):
        export_cases([SceneCase((labeled, hollow))], job_folder)
    assert files(job_folder) == []
    assert not (job_folder / "images" / "case-01").exists()


def test_not_twice_into_one_folder(scene: Any, labeled: Any, job_folder: Path) -> None:
    export_cases(find_cases(scene), job_folder)
    with pytest.raises(RequestError, match="already holds"):
        export_cases(find_cases(scene), job_folder)


def test_folder_that_cannot_be_written(scene: Any, labeled: Any, tmp_path: Path) -> None:
    (tmp_path / "job").write_text("a file where the folder should be", encoding="utf-8")
    with pytest.raises(StorageError, match="could not be written"):
        export_cases(find_cases(scene), tmp_path / "job")


@pytest.mark.parametrize("content", [None, "", "[]", '{"cases": [{"name": "case-01"}]}', '{"cases": [3]}'])
def test_a_damaged_mapping_is_one_sentence(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "nodes.json").write_text(content, encoding="utf-8")
    with pytest.raises(RequestError, match=say("job damaged")):
        CaseFolder.read(tmp_path)


def test_mapping_is_plain_json(scene: Any, labeled: Any, job_folder: Path) -> None:
    export_cases(find_cases(scene), job_folder)
    (entry,) = json.loads((job_folder / "nodes.json").read_text(encoding="utf-8"))["cases"]
    assert entry["title"] == "Doe^Jane/1970: CT?"
    assert entry["volumes"] == [labeled.GetID()]
