"""Slicer's `qt` module over PySide6: the calling conventions of PythonQt, and as strict.

Qt properties are attributes, not functions; signals are named by their signature in `connect`; a property, function or
signal that does not exist raises, and so does a new attribute. Objects are wrapped: nothing of PySide6 is changed.
"""

from __future__ import annotations

import os
from types import ModuleType
from typing import Any, ClassVar
from xml.etree import ElementTree

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

from PySide6 import QtCore, QtGui, QtUiTools, QtWidgets

_MODULES = (QtCore, QtGui, QtWidgets)


class Wrapped:
    """A QObject as PythonQt shows it."""

    __slots__ = ("_qobject",)

    def __init__(self, qobject: QtCore.QObject) -> None:
        object.__setattr__(self, "_qobject", qobject)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Wrapped) and self._qobject is other._qobject

    def __hash__(self) -> int:
        return id(self._qobject)

    def __getattr__(self, name: str) -> Any:
        qobject = self._qobject
        if name == "name":
            return qobject.objectName()
        if _has_property(qobject, name):
            return wrap(qobject.property(name))
        found = getattr(type(qobject), name, None)
        if name.startswith("_") or found is None or isinstance(found, QtCore.Signal):
            raise AttributeError(f"{self.className()} has no property or function {name}")
        return lambda *values: wrap(getattr(qobject, name)(*map(unwrap, values)))

    def __setattr__(self, name: str, value: Any) -> None:
        if not _has_property(self._qobject, name):
            raise AttributeError(f"{self.className()} has no property {name}; PythonQt allows no new attributes")
        if not self._qobject.setProperty(name, unwrap(value)):
            raise TypeError(f"{self.className()}.{name} cannot be set to {value!r}")

    def className(self) -> str:
        return str(self._qobject.metaObject().className())

    def children(self) -> list[Wrapped]:
        return [Wrapped(child) for child in self._qobject.children()]

    def connect(self, signature: str, receiver: Any) -> bool:
        _signal(self._qobject, signature).connect(lambda *values: receiver(*map(wrap, values)))
        return True


class WrappedClass:
    """A QObject's class: makes wrapped objects; enumerations and static functions are those of the class."""

    def __init__(self, cls: type) -> None:
        self._class = cls

    def __call__(self, *values: Any) -> Wrapped:
        return Wrapped(self._class(*map(unwrap, values)))

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._class, name)
        return (lambda *values: wrap(found(*map(unwrap, values)))) if callable(found) else found


class UiLoader(QtUiTools.QUiLoader):
    """Makes stand-ins for the widgets that are not Qt's own."""

    foreign: ClassVar[dict[str, type]] = {}

    def createWidget(self, name: str, parent: Any = None, title: str = "") -> Any:
        if name.startswith("Q"):
            return super().createWidget(name, parent, title)
        widget = self.foreign[name](parent)
        widget.setObjectName(title)
        return widget


class QUiLoader:
    """As Qt's, with the connections of the file made between stand-ins, whose signals are Python's."""

    def load(self, file: Wrapped) -> Wrapped:
        text = bytes(unwrap(file).readAll().data())
        buffer = QtCore.QBuffer()
        root = ElementTree.fromstring(text)
        connections = [[part.text or "" for part in connection] for connection in root.iter("connection")]
        for parent in root.iter():
            for child in parent.findall("connections"):
                parent.remove(child)
        buffer.setData(ElementTree.tostring(root))
        buffer.open(QtCore.QIODevice.OpenModeFlag.ReadOnly)
        widget = UiLoader().load(buffer)
        for sender, signal, receiver, slot in connections:
            ends = [
                widget if widget.objectName() == name else widget.findChild(QtCore.QObject, name)
                for name in (sender, receiver)
            ]
            _signal(ends[0], signal).connect(getattr(ends[1], slot.split("(")[0]))
        return Wrapped(widget)


def qt_module(foreign: dict[str, type]) -> ModuleType:
    """The module `qt`. `foreign` are the stand-ins that .ui files may name."""
    UiLoader.foreign = foreign
    application = QtWidgets.QApplication.instance()
    if application is None:
        application = QtWidgets.QApplication(["Slicer"])
        application.setFont(QtGui.QFont(application.font().family(), 9))  # as Slicer's style has it

    class Qt(ModuleType):
        def __getattr__(self, name: str) -> Any:
            for module in _MODULES:
                found = getattr(module, name, None)
                if found is not None:
                    is_object = isinstance(found, type) and issubclass(found, QtCore.QObject)
                    return WrappedClass(found) if is_object else found
            raise AttributeError(f"qt has no {name}")

    module: Any = Qt("qt")
    module.QUiLoader = QUiLoader
    module.application = application
    return module


def wrap(value: Any) -> Any:
    return Wrapped(value) if isinstance(value, QtCore.QObject) else value


def unwrap(value: Any) -> Any:
    return value._qobject if isinstance(value, Wrapped) else value


def _has_property(qobject: QtCore.QObject, name: str) -> bool:
    return qobject.metaObject().indexOfProperty(name) >= 0


def _signal(qobject: QtCore.QObject, signature: str) -> Any:
    """The signal of that signature; Python's signals of stand-ins list theirs in `signals`."""
    normal = QtCore.QMetaObject.normalizedSignature(signature).data().decode()
    own = getattr(qobject, "signals", ())
    if normal not in own and qobject.metaObject().indexOfSignal(normal) < 0:
        raise ValueError(f"{qobject.metaObject().className()} has no signal {signature}")
    name, arguments = normal.rstrip(")").split("(")
    signal = getattr(qobject, name)
    return signal if normal in own else signal[arguments] if "," not in arguments and arguments else signal
