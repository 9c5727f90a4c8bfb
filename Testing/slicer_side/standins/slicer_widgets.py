"""Stand-ins for the ctk and qMRML widgets that the panel's .ui file uses. The MRML behind them is real.

Their properties and signals are a part of those in real_widgets.json, which lists the real widgets'.
"""

from __future__ import annotations

from typing import Any

import slicer
from PySide6.QtCore import Property, Signal
from PySide6.QtWidgets import QComboBox, QHBoxLayout, QLabel, QLineEdit, QWidget


class ctkCollapsibleButton(QWidget):
    """A title over its contents. (The real one is a button that draws itself; its contents are children, as here.)"""

    contentsCollapsed = Signal(bool)
    signals = ("contentsCollapsed(bool)",)

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._collapsed = False
        self._button = QLabel(self)
        font = self._button.font()
        font.setBold(True)
        self._button.setFont(font)
        self._title = ""
        self._lay()

    def resizeEvent(self, event: Any) -> None:
        self._lay()
        super().resizeEvent(event)

    def showEvent(self, event: Any) -> None:
        if self.layout() is not None:
            left, _, right, bottom = self.layout().getContentsMargins()
            self.layout().setContentsMargins(left, self._button.sizeHint().height() + 4, right, bottom)
        self._fold(self._collapsed)
        super().showEvent(event)

    def _lay(self) -> None:
        self._button.setText(("▸ " if self._collapsed else "▾ ") + self._title)
        self._button.setGeometry(0, 0, self.width(), self._button.sizeHint().height())

    def _fold(self, collapsed: bool) -> None:
        changed = collapsed != self._collapsed
        self._collapsed = collapsed
        self.setMaximumHeight(self._button.sizeHint().height() if collapsed else 16777215)
        self._lay()
        if changed:
            self.contentsCollapsed.emit(collapsed)

    def _set_text(self, text: str) -> None:
        self._title = text
        self._lay()

    text = Property(str, lambda self: self._title, _set_text)
    collapsed = Property(bool, lambda self: self._collapsed, lambda self, value: self._fold(value))


class ctkPathLineEdit(QWidget):
    currentPathChanged = Signal(str)
    signals = ("currentPathChanged(QString)",)

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._line = QLineEdit(self)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._line)
        self._line.textChanged.connect(self.currentPathChanged.emit)
        self._filters: Any = 0
        self._name_filters: list[str] = []

    currentPath = Property(str, lambda self: self._line.text(), lambda self, path: self._line.setText(path))
    filters = Property(int, lambda self: self._filters, lambda self, value: setattr(self, "_filters", value))
    nameFilters = Property(
        "QStringList", lambda self: self._name_filters, lambda self, value: setattr(self, "_name_filters", value)
    )


class qMRMLWidget(QWidget):
    mrmlSceneChanged = Signal(object)
    signals = ("mrmlSceneChanged(vtkMRMLScene*)",)

    def setMRMLScene(self, scene: Any) -> None:
        self.mrmlSceneChanged.emit(scene)


def _stored(kind: str | type, name: str, default: Any) -> Any:
    def write(self: Any, value: Any) -> None:
        self.__dict__[f"_{name}"] = value
        self.fill()

    return Property(kind, lambda self: self.__dict__.get(f"_{name}", default), write)


class qMRMLNodeComboBox(QWidget):
    currentNodeChanged = Signal(object)
    nodeAddedByUser = Signal(object)
    signals = ("currentNodeChanged(vtkMRMLNode*)", "nodeAddedByUser(vtkMRMLNode*)")

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._combo = QComboBox(self)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._combo)
        self._scene: Any = None
        self._last = ""
        self._observers: list[int] = []
        self._combo.currentIndexChanged.connect(lambda index: self._changed())

    nodeTypes = _stored("QStringList", "nodeTypes", [])
    noneEnabled = _stored(bool, "noneEnabled", False)
    noneDisplay = _stored(str, "noneDisplay", "None")
    showChildNodeTypes = _stored(bool, "showChildNodeTypes", True)
    addEnabled = _stored(bool, "addEnabled", True)
    removeEnabled = _stored(bool, "removeEnabled", True)
    renameEnabled = _stored(bool, "renameEnabled", False)

    def setMRMLScene(self, scene: Any) -> None:
        for tag in self._observers:
            self._scene.RemoveObserver(tag)
        self._scene, self._observers = scene, []
        if scene is not None:
            events = (scene.NodeAddedEvent, scene.NodeRemovedEvent, scene.EndCloseEvent)
            self._observers = [scene.AddObserver(event, lambda caller, event: self.fill()) for event in events]
        self.fill()

    def addNode(self) -> None:
        """Create new ..., as the real list does it."""
        assert self.addEnabled
        node = self._scene.AddNewNodeByClass(self.nodeTypes[0])
        self.setCurrentNodeID(node.GetID())
        self.nodeAddedByUser.emit(node)

    def currentNode(self) -> Any:
        identifier = self._combo.currentData()
        return self._scene.GetNodeByID(identifier) if self._scene is not None and identifier else None

    def setCurrentNodeID(self, identifier: str) -> None:
        self._combo.setCurrentIndex(max(0, self._combo.findData(identifier)))

    def fill(self) -> None:
        if self._scene is None:
            return
        kept = self._combo.currentData()
        self._combo.blockSignals(True)
        self._combo.clear()
        if self.noneEnabled:
            self._combo.addItem(self.noneDisplay, "")
        for kind in self.nodeTypes:
            for node in slicer.util.getNodesByClass(kind, self._scene):
                if self.showChildNodeTypes or node.GetClassName() == kind:
                    self._combo.addItem(node.GetName(), node.GetID())
        self._combo.setCurrentIndex(max(0, self._combo.findData(kept)))
        self._combo.blockSignals(False)
        self._changed()

    def _changed(self) -> None:
        current = self._combo.currentData() or ""
        if current != self._last:
            self._last = current
            self.currentNodeChanged.emit(self.currentNode())


class qMRMLSegmentEditorWidget(QWidget):
    """What was given to it to edit, and every call of it."""

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self.segmentation: Any = None
        self.volume: Any = None
        self.effect: Any = None  # the tool in use
        self.calls: list[str] = []
        self._node: Any = None

    segmentationNodeSelectorVisible = Property(bool, lambda self: False, lambda self, value: None)
    sourceVolumeNodeSelectorVisible = Property(bool, lambda self: False, lambda self, value: None)
    maximumNumberOfUndoStates = Property(int, lambda self: 10, lambda self, value: None)
    signals = ()

    def setMRMLScene(self, scene: Any) -> None:
        self.calls.append("setMRMLScene")

    def setMRMLSegmentEditorNode(self, node: Any) -> None:
        assert node.IsA("vtkMRMLSegmentEditorNode")
        self._node = node

    def setSegmentationNode(self, node: Any) -> None:
        assert node is None or (self._node is not None and node.IsA("vtkMRMLSegmentationNode"))
        self.segmentation = node

    def setSourceVolumeNode(self, node: Any) -> None:
        assert self.segmentation is not None
        assert node.IsA("vtkMRMLScalarVolumeNode")
        self.volume = node

    def activeEffect(self) -> Any:
        return self.effect

    def setActiveEffect(self, effect: Any) -> None:
        self.effect = effect

    def setupViewObservations(self) -> None:
        self.calls.append("setupViewObservations")

    def removeViewObservations(self) -> None:
        self.calls.append("removeViewObservations")

    def installKeyboardShortcuts(self) -> None:
        self.calls.append("installKeyboardShortcuts")

    def uninstallKeyboardShortcuts(self) -> None:
        self.calls.append("uninstallKeyboardShortcuts")


class ctkComboBox(QComboBox):
    """A QComboBox that does with the mouse wheel what it is told to."""

    NeverScroll, AlwaysScroll = range(2)
    signals = ()

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._effect = self.AlwaysScroll

    def wheelEvent(self, event: Any) -> None:
        super().wheelEvent(event) if self._effect == self.AlwaysScroll else event.ignore()

    scrollWheelEffect = Property(int, lambda self: self._effect, lambda self, value: setattr(self, "_effect", value))


FOREIGN = {
    cls.__name__: cls
    for cls in (
        *(ctkCollapsibleButton, ctkComboBox, ctkPathLineEdit),
        *(qMRMLNodeComboBox, qMRMLSegmentEditorWidget, qMRMLWidget),
    )
}
