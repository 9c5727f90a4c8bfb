"""The sample scans: registered in Slicer's Sample Data module, loaded into the real scene without a network."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

import numpy as np
import pytest
import SimpleITK as sitk
import slicer
import slicer.util
from panel_scene import new_panel
from PIL import Image
from standins.sample_data_module import install

from GLMAESegmentationLib.panel.actions import START_TRAINING
from GLMAESegmentationLib.scene.sample_data import SCANS, load_group, register_sample_data, sample_groups
from GLMAESegmentationLib.scene.scene_cases import find_cases

TITLE = "Few-Label Segmentation (GL-MAE)"


@pytest.mark.parametrize("titles_exist", [True, False])
def test_both_groups_are_registered(monkeypatch: pytest.MonkeyPatch, titles_exist: bool) -> None:
    sources, titles = install(monkeypatch, categories_have_titles=titles_exist)
    register_sample_data()
    read = {titles.get(source.category, source.category) for source in sources}
    assert read == {TITLE}  # in every version of Slicer
    tutorial = " ".join((SCANS.parents[2] / "docs" / "tutorial.md").read_text(encoding="utf-8").split())
    assert f"*{TITLE}*" in tutorial
    for source in sources:
        assert f"**{source.button}**" in tutorial
        for uri in source.uris:
            parts = urlsplit(uri)
            assert parts.scheme == "file"
            assert Path(url2pathname(parts.path)).is_file()
        with Image.open(source.thumbnailFileName) as thumbnail:
            assert thumbnail.size == (288, 192)
            assert np.asarray(thumbnail.convert("L")).std() > 20  # there is something to see


def test_no_scan_is_in_both_groups() -> None:
    labeled, unlabeled = sample_groups()
    assert (len(labeled.scans), len(unlabeled.scans)) == (2, 4)
    assert not set(labeled.scans) & set(unlabeled.scans)


def test_a_click_loads_a_group_offline(scene: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_network(*arguments: Any, **options: Any) -> None:
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket, "socket", no_network)
    shown: list[Any] = []
    monkeypatch.setattr(slicer.util, "setSliceViewerLayers", lambda background, fit: shown.append(background))
    sources, _titles = install(monkeypatch, categories_have_titles=True)
    register_sample_data()
    volumes = [volume for source in sources for volume in source.customDownloader(source)]
    assert [volume.GetName() for volume in volumes] == [name for source in sources for name in source.nodeNames]
    assert shown == [volumes[0], volumes[2]]
    cases = find_cases(scene)
    assert len(cases) == 6
    assert [case.segmentation is not None for case in cases] == [True] * 2 + [False] * 4


def test_labels_have_their_names_colors_and_voxels(scene: Any) -> None:
    group = sample_groups()[0]
    volumes = load_group(group, scene)
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    folders = set()
    for volume, file in zip(volumes, group.files, strict=True):
        (segmentation,) = scene.GetNodesByName(f"{volume.GetName()} segmentation")
        content = segmentation.GetSegmentation()
        label = sitk.GetArrayFromImage(sitk.ReadImage(str(SCANS / "labels" / file.name)))
        found = {content.GetNthSegment(index).GetName(): index for index in range(content.GetNumberOfSegments())}
        assert set(found) == {"hippocampus anterior", "hippocampus posterior"}
        for value, (name, color) in enumerate(
            {"hippocampus anterior": (0.9, 0.56, 0.24), "hippocampus posterior": (0.3, 0.62, 0.86)}.items(), start=1
        ):
            segment = content.GetNthSegment(found[name])
            assert segment.GetColor() == pytest.approx(color)
            voxels = slicer.util.arrayFromSegmentBinaryLabelmap(
                segmentation, content.GetNthSegmentID(found[name]), volume
            )
            assert np.array_equal(voxels > 0, label == value)
        folders |= {hierarchy.GetItemParent(hierarchy.GetItemByDataNode(node)) for node in (volume, segmentation)}
    (folder,) = folders
    assert hierarchy.GetItemName(folder) == group.title


def test_with_both_groups_the_panel_says_what_the_tutorial_says(scene: Any, tmp_path: Path) -> None:
    for group in sample_groups():
        load_group(group, scene)
    panel = new_panel(scene, tmp_path)
    for _ in range(4):
        panel.tick()
    assert [scan.role for scan in panel.state.scans] == ["train"] * 2 + ["segment"] * 4
    assert [row.name for row in panel.state.classes] == ["hippocampus anterior", "hippocampus posterior"]
    assert panel.state.step == "suggest"
    assert START_TRAINING in panel.state.enabled
    tutorial = (SCANS.parents[2] / "docs" / "tutorial.md").read_text(encoding="utf-8")
    for said in (*(f"**{group.title}**" for group in sample_groups()), f'"{panel.state.next_step}"'):
        assert said in " ".join(tutorial.split())
