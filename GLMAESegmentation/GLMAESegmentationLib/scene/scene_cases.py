"""The cases that a scene holds: which volumes are scans, and which segmentation belongs to which of them."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import slicer

from glmae.scans.classes import plain_name

from .segment_voxels import segments, stamp_of
from .segmentation_import import is_result

# Set on what shows a training under way: it is no segmentation of anybody's.
PREVIEW_ATTRIBUTE = "GLMAESegmentation.Preview"
# Set on a segmentation when the user said that only the slices, or the box, that hold labels were looked at.
# Scenes that were saved have it in this spelling.
PARTLY_ATTRIBUTE = "GLMAESegmentation.PartlyLabelled"
# What people and programs add to a scan's name to name its segmentation.
_LABEL_WORDS = {"segmentation", "segmentations", "seg", "label", "labels", "labelmap", "mask", "glmae", "of"}


@dataclass(frozen=True)
class SceneCase:
    """One case of a scene: a scan and what was drawn on it.

    Attributes:
        volumes: vtkMRMLScalarVolumeNodes of the same place, one a channel; the first gives the grid.
        segmentation: the vtkMRMLSegmentationNode to train on, None for an unlabeled case.
        results: segmentations that this extension made of the case and that were not accepted as labels yet.
        further: other drawn segmentations of the case, for the user to choose from.
    """

    volumes: tuple[Any, ...]
    segmentation: Any | None = None
    results: tuple[Any, ...] = ()
    further: tuple[Any, ...] = ()


def is_partly_labeled(segmentation: Any | None) -> bool:
    """Whether the user said so of what was drawn; False without a segmentation."""
    return segmentation is not None and bool(segmentation.GetAttribute(PARTLY_ATTRIBUTE))


def label_stamp(segmentation: Any) -> object:
    """What tells the labels of a node from others, and from what they will be after the next stroke of the brush."""
    names = tuple(segment.GetName() or "" for segment in segments(segmentation).values())
    return segmentation.GetID(), stamp_of(segmentation), names, is_partly_labeled(segmentation)


def find_cases(scene: Any, chosen: Collection[str] = (), channels: Collection[Sequence[str]] = ()) -> list[SceneCase]:
    """Every scan of the scene as a case, with the segmentations that belong to it.

    Args:
        scene: the vtkMRMLScene.
        chosen: IDs of segmentations that the user chose to train on. Where a scan has several and none is chosen, it
            is the one with most of the structures of the scans that have a single one; of equals, the first.
        channels: IDs of volumes that are channels of one scan, for each such scan; the first gives the grid.
    """
    volumes = scan_volumes(scene)
    scans = _together(volumes, channels)
    first = {volume.GetID(): scan[0].GetID() for scan in scans for volume in scan}
    owned: dict[str, list[Any]] = {scan[0].GetID(): [] for scan in scans}
    for segmentation in slicer.util.getNodesByClass("vtkMRMLSegmentationNode", scene):
        volume = None if segmentation.GetAttribute(PREVIEW_ATTRIBUTE) else volume_of(segmentation, volumes)
        if volume is not None:
            owned[first[volume.GetID()]].append(segmentation)
    drawn = {scan: [node for node in nodes if not is_result(node)] for scan, nodes in owned.items()}
    usual = {name for nodes in drawn.values() if len(nodes) == 1 for name in _structures(nodes[0])}
    for nodes in drawn.values():
        nodes.sort(key=lambda node: (node.GetID() not in chosen, -len(usual & _structures(node))))
    return [
        SceneCase(
            volumes=scan,
            segmentation=next(iter(drawn[scan[0].GetID()]), None),
            results=tuple(node for node in owned[scan[0].GetID()] if is_result(node)),
            further=tuple(drawn[scan[0].GetID()][1:]),
        )
        for scan in scans
    ]


def _together(volumes: Sequence[Any], channels: Collection[Sequence[str]]) -> list[tuple[Any, ...]]:
    """The volumes of each scan, at the place of its first one."""
    there = {volume.GetID(): volume for volume in volumes}
    groups = [tuple(there[one] for one in group if one in there) for group in channels]
    grouped = {volume.GetID(): group for group in groups for volume in group}
    scans = [grouped.get(volume.GetID(), (volume,)) for volume in volumes]
    return [scan for volume, scan in zip(volumes, scans, strict=True) if scan[0] is volume]


def scan_volumes(scene: Any) -> list[Any]:
    """The volumes that can be scans: scalar and three-dimensional, no label maps, vectors or hidden helpers."""
    return [
        node
        for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode", scene)
        if node.GetClassName() == "vtkMRMLScalarVolumeNode"
        and not node.GetHideFromEditors()
        and node.GetImageData() is not None
        and min(node.GetImageData().GetDimensions()) > 1
    ]


def volume_of(segmentation: Any, volumes: Sequence[Any]) -> Any | None:
    """The one of `volumes` that was segmented; None when nothing says so or two fit equally well.

    Evidence, the best first: the reference geometry that Slicer stores in the segmentation; being the only scan in the
    same study or folder; a name that is the scan's with "segmentation", "label" and the like added.
    """
    role = segmentation.GetReferenceImageGeometryReferenceRole()
    referenced = segmentation.GetNodeReferenceID(role)
    if referenced and segmentation.GetNodeReference(role) is not None:
        # A reference is a statement: a segmentation of another volume must not be given to this one by its name.
        return next((volume for volume in volumes if volume.GetID() == referenced), None)
    return _only([v for v in volumes if _same_folder(segmentation, v)]) or _only(
        [volume for volume in volumes if _stem(volume.GetName()) == _stem(segmentation.GetName())]
    )


def _structures(segmentation: Any) -> set[str]:
    return {plain_name(segment.GetName() or "") for segment in segments(segmentation).values()}


def _same_folder(segmentation: Any, volume: Any) -> bool:
    hierarchy = volume.GetScene().GetSubjectHierarchyNode()
    if hierarchy is None:
        return False
    items = hierarchy.GetItemByDataNode(segmentation), hierarchy.GetItemByDataNode(volume)
    if not all(items):
        return False
    folders = [hierarchy.GetItemParent(item) for item in items]
    return bool(folders[0] == folders[1] != hierarchy.GetSceneItemID())


def _stem(name: str) -> tuple[str, ...]:
    """The words of a name without those that only say that it is a label."""
    words = re.findall(r"\w+", (name or "").casefold().replace("_", " "))
    return tuple(word for word in words if word not in _LABEL_WORDS) or tuple(words)


def _only(candidates: Sequence[Any]) -> Any | None:
    return candidates[0] if len(candidates) == 1 else None
