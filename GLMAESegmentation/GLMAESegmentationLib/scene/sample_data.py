"""The bundled scans in Slicer's Sample Data module: a labeled and an unlabeled group, without a download."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import slicer

from ..messages import say
from .segment_voxels import segments

RESOURCES = Path(__file__).resolve().parents[2] / "Resources"
SCANS = RESOURCES / "SampleScans"
CATEGORY = "GLMAE"


@dataclass(frozen=True)
class SampleGroup:
    """Scans that are loaded together.

    Attributes:
        title: what its button in Sample Data says, and its name for scripts.
        thumbnail: file name of its picture in Resources/Icons.
        scans: names of the scans.
        labeled: whether the segmentations drawn by hand are loaded too.
    """

    title: str
    thumbnail: str
    scans: tuple[str, ...]
    labeled: bool

    @property
    def files(self) -> tuple[Path, ...]:
        """The image files."""
        return tuple(SCANS / "images" / f"{scan}.nii.gz" for scan in self.scans)


def sample_groups() -> tuple[SampleGroup, SampleGroup]:
    """Two labeled scans to train on, four others to segment."""
    return (
        SampleGroup(say("samples labeled"), "SampleLabeled.png", ("hippocampus_039", "hippocampus_207"), labeled=True),
        SampleGroup(
            say("samples unlabeled"),
            "SampleUnlabeled.png",
            tuple(f"hippocampus_{number}" for number in ("003", "057", "097", "230")),
            labeled=False,
        ),
    )


def register_sample_data() -> None:
    """Add the groups to Slicer's Sample Data module. To be called once, when Slicer has started up.

    Runs at every start of Slicer: nothing of the engine is imported, and no file is read.
    """
    logic = importlib.import_module("SampleData").SampleDataLogic
    title = say("module")
    titled = hasattr(logic, "registerCustomSampleDataCategory")  # new in Slicer 5.12; before, the category is shown
    if titled:
        logic.registerCustomSampleDataCategory(CATEGORY, title)
    for group in sample_groups():
        logic.registerCustomSampleDataSource(
            category=CATEGORY if titled else title,
            sampleName=group.title,
            uris=[file.as_uri() for file in group.files],
            fileNames=[file.name for file in group.files],
            nodeNames=list(group.scans),
            loadFileTypes=["VolumeFile"] * len(group.files),
            loadFiles=[True] * len(group.files),
            thumbnailFileName=str(RESOURCES / "Icons" / group.thumbnail),
            customDownloader=_loader(group),
        )


def load_group(group: SampleGroup, scene: Any) -> list[Any]:
    """Load a group into `scene`, in a folder of its own in the subject hierarchy; the new scalar volume nodes."""
    from glmae.scans.class_file import read_class_file
    from glmae.scans.classes import ClassTable

    volumes_logic = slicer.modules.volumes.logic()
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    folder = hierarchy.CreateFolderItem(hierarchy.GetSceneItemID(), group.title)
    classes = read_class_file(SCANS / "labels" / "classes.json").classes or ClassTable(())
    volumes = []
    for scan, file in zip(group.scans, group.files, strict=True):
        volume = volumes_logic.AddArchetypeVolume(str(file), scan)
        hierarchy.CreateItem(folder, volume)
        volumes.append(volume)
        if group.labeled:
            segmentation = _load_label(SCANS / "labels" / file.name, volume, classes, scene)
            hierarchy.CreateItem(folder, segmentation)
    return volumes


def _loader(group: SampleGroup) -> Callable[[Any], list[Any]]:
    def load(source: Any) -> list[Any]:
        volumes = load_group(group, slicer.mrmlScene)
        slicer.util.setSliceViewerLayers(background=volumes[0], fit=True)
        return volumes

    return load


def _load_label(file: Path, volume: Any, classes: Any, scene: Any) -> Any:
    labelmap = slicer.modules.volumes.logic().AddArchetypeVolume(str(file), f"{volume.GetName()} label", 1)
    segmentation = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", f"{volume.GetName()} segmentation")
    segmentation.CreateDefaultDisplayNodes()
    segmentation.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    slicer.modules.segmentations.logic().ImportLabelmapToSegmentationNode(labelmap, segmentation)
    scene.RemoveNode(labelmap)
    by_value = {entry.value: entry for entry in classes.classes}
    for segment in segments(segmentation).values():
        entry = by_value[segment.GetLabelValue()]
        segment.SetName(entry.name)
        if entry.color is not None:
            segment.SetColor(*entry.color)
    return segmentation
