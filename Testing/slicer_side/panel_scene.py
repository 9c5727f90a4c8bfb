"""What the panel finds in a scene: bundled scans as a user loads them, and the module's parameter node."""

from __future__ import annotations

from typing import Any

import slicer
from scene_content import SAMPLES

STRUCTURES = {1: ("Anterior", (0.9, 0.5, 0.2)), 2: ("Posterior", (0.2, 0.6, 0.9))}


def load_scan(name: str, labelled: bool = True) -> Any:
    """A bundled scan, with a segmentation of its two structures if `labelled`; its volume node."""
    volumes = slicer.modules.volumes.logic()
    volume = volumes.AddArchetypeVolume(str(SAMPLES / "images" / f"{name}.nii.gz"), name)
    if labelled:
        labelmap = volumes.AddArchetypeVolume(str(SAMPLES / "labels" / f"{name}.nii.gz"), f"{name} label", 1)
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", f"{name} segmentation")
        node.CreateDefaultDisplayNodes()
        node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
        slicer.modules.segmentations.logic().ImportLabelmapToSegmentationNode(labelmap, node)
        slicer.mrmlScene.RemoveNode(labelmap)
        for index, (title, color) in enumerate(STRUCTURES.values()):
            segment = node.GetSegmentation().GetNthSegment(index)
            segment.SetName(title)
            segment.SetColor(*color)
    return volume


def parameter_node() -> Any:
    """As ScriptedLoadableModuleLogic.getParameterNode: one a scene, made when it is missing."""
    scene = slicer.mrmlScene
    node = scene.GetSingletonNode("GLMAESegmentation", "vtkMRMLScriptedModuleNode")
    if node is None:
        node = scene.CreateNodeByClass("vtkMRMLScriptedModuleNode")
        node.UnRegister(None)
        node.SetSingletonTag("GLMAESegmentation")
        node.SetName("GLMAESegmentation")
        node = scene.AddNode(node)
    node.SetAttribute("ModuleName", "GLMAESegmentation")
    return node
