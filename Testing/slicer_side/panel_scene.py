"""What the panel finds in a scene: bundled scans as a user loads them, and the module's parameter node."""

from __future__ import annotations

import dataclasses
import json
import struct
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import slicer
import slicer.util
from plain_process import PlainProcess
from scene_content import SAMPLES

from GLMAESegmentationLib.engine.command import EngineCommand
from GLMAESegmentationLib.messages import say
from GLMAESegmentationLib.panel.panel import Panel
from GLMAESegmentationLib.scene.segmentation_export import export_segmentation

STRUCTURES = {1: ("Anterior", (0.9, 0.5, 0.2)), 2: ("Posterior", (0.2, 0.6, 0.9))}


def load_scan(name: str, labeled: bool = True, folder: Path = SAMPLES) -> Any:
    """A bundled scan, with a segmentation of its two structures if `labeled`; its volume node."""
    volumes = slicer.modules.volumes.logic()
    volume = volumes.AddArchetypeVolume(str(folder / "images" / f"{name}.nii.gz"), name)
    if labeled:
        labelmap = volumes.AddArchetypeVolume(str(folder / "labels" / f"{name}.nii.gz"), f"{name} label", 1)
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


def give_result(stand_in: Path, remove: bool = False) -> None:
    """Load a labeled scan whose label is what the stand-in engine finds in every scan; `remove` it again."""
    labeled = load_scan("hippocampus_003")
    drawn = slicer.util.getFirstNodeByClassByName("vtkMRMLSegmentationNode", "hippocampus_003 segmentation")
    export_segmentation(drawn, labeled, stand_in.parent / "result.seg.nrrd")
    for node in (drawn, labeled) if remove else ():
        slicer.mrmlScene.RemoveNode(node)


def segment_with_stand_in(window: Any, tmp_path: Path, names: Sequence[str]) -> None:
    """Load scans and press Segment, with a model that is called Leber."""
    for name in names:
        load_scan(name, labeled=False)
    window.panel.library.add(write_model(tmp_path / "trained"), "Leber")
    window.panel.choices.model = "Leber"
    window.settle()
    window.click("segmentButton")
    window.run()
    window.settle()


def draw_in(node: Any) -> None:
    """As the Segment Editor does it: one segment's label map is written anew."""
    volume = slicer.mrmlScene.GetNodeByID(node.GetNodeReferenceID(node.GetReferenceImageGeometryReferenceRole()))
    identifier = node.GetSegmentation().GetNthSegmentID(0)
    voxels = slicer.util.arrayFromSegmentBinaryLabelmap(node, identifier, volume)
    voxels[:2, :3, :4] = 1
    slicer.util.updateSegmentBinaryLabelmapFromArray(voxels, node, identifier, volume)


def with_small_crops(command: EngineCommand, before: str = "") -> PlainProcess:
    """The real engine, taking a step in much less than a second on any computer.

    Args:
        command: of the panel.
        before: what its process is to do first, in Python; `fail` is a function that finds memory short.
    """
    _m, _module, alive, *words = command.arguments
    settings = ("crop=[16, 16, 16]", "batch=1", "start_steps=20", "start_crops=0")
    small = [word for one in settings for word in ("--setting", one)] if words[0] == "finetune" else []
    code = (
        "import sys\ndef fail(*words, **named):\n    raise MemoryError\n"
        f"{before}\nfrom GLMAESegmentationLib.engine.child import main\nmain(sys.argv[1:])"
    )
    return PlainProcess(dataclasses.replace(command, arguments=("-c", code, alive, *words, *small)))


def statuses(*keys: str) -> list[str]:
    """What the column Status of the table of scans says, from top to bottom."""
    return [say(f"status {key}") for key in keys]


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


def write_model(folder: Path, structures: Sequence[str] = ("liver",), channels: int = 1) -> Path:
    """A model folder that is whole as far as it can be told without torch."""
    folder.mkdir(parents=True)
    card = {
        "format": 1,
        "kind": "segmentation",
        "classes": [{"value": value, "name": name} for value, name in enumerate(structures, start=1)],
        "preprocessing": {},
        "backbone": {"channels": channels},
        "fingerprint": {"classes": [{"name": name, "volume": 1700.0} for name, _ in STRUCTURES.values()]},
    }
    (folder / "model.json").write_text(json.dumps(card), encoding="utf-8")
    header = json.dumps({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    (folder / "weights.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(4))
    return folder


def new_panel(scene: Any, tmp_path: Path, start: Any = PlainProcess, environment: Path | None = None) -> Panel:
    """A panel without widgets, as a browser would have it."""
    folder = tmp_path / "settings ü"
    return Panel(scene, parameter_node, folder, start, environment)


def follow(panel: Panel, until: Callable[[], bool] = lambda: False, seconds: float = 120) -> None:
    """Tick until the job is over, or `until` says so."""
    end = time.monotonic() + seconds
    while panel.busy and not until():
        assert time.monotonic() < end, panel.log
        panel.tick()
        time.sleep(0.02)
