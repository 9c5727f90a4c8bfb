"""Drawing in the panel: Slicer's segment editor in a section of its own."""

from __future__ import annotations

from typing import Any

import slicer

_SETTINGS = "GLMAESegmentation"  # singleton tag of the node with the editor's choices


class Drawing:
    """Opens and closes the section.

    Args:
        section: the ctkCollapsibleButton.
        editor: the qMRMLSegmentEditorWidget in it.
    """

    def __init__(self, section: Any, editor: Any) -> None:
        self._section, self._editor = section, editor
        self._entered = False
        self.segmentation_id = ""
        section.visible = False

    @property
    def active(self) -> bool:
        """Whether a tool is in use."""
        return bool(self.segmentation_id) and self._editor.activeEffect() is not None

    def show(self, segmentation_id: str, volume_id: str) -> None:
        """Open it on a segmentation and its volume; with "" close it."""
        if segmentation_id == self.segmentation_id:
            return
        self.exit()
        self.segmentation_id = segmentation_id
        self._section.visible = bool(segmentation_id)
        if not segmentation_id:
            self._editor.setSegmentationNode(None)
            return
        self._editor.setMRMLSegmentEditorNode(_settings_node())
        self._editor.setSegmentationNode(slicer.mrmlScene.GetNodeByID(segmentation_id))
        self._editor.setSourceVolumeNode(slicer.mrmlScene.GetNodeByID(volume_id))
        self._section.collapsed = False
        self.enter()

    def enter(self) -> None:
        """The module is shown: the tools react to the views and the keyboard."""
        if self.segmentation_id and not self._entered:
            self._editor.setupViewObservations()
            self._editor.installKeyboardShortcuts()
            self._entered = True

    def exit(self) -> None:
        """The module is left, or the section closed."""
        if self._entered:
            self._editor.setActiveEffect(None)
            self._editor.uninstallKeyboardShortcuts()
            self._editor.removeViewObservations()
            self._entered = False


def _settings_node() -> Any:
    """The editor's choices are stored in a node of their own, made anew after a scene was closed."""
    scene = slicer.mrmlScene
    node = scene.GetSingletonNode(_SETTINGS, "vtkMRMLSegmentEditorNode")
    if node is None:
        node = scene.CreateNodeByClass("vtkMRMLSegmentEditorNode")
        node.UnRegister(None)
        node.SetSingletonTag(_SETTINGS)
        node = scene.AddNode(node)
    return node
