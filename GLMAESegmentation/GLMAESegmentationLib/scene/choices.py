"""What the user chose in the panel, stored in the module's parameter node: it is saved and loaded with the scene.

Plain parameters and node references, not `parameterNodeWrapper`: the wrapper exists in the Slicer application only, and
this code also serves other front ends. References follow their nodes when a scene is imported into another one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

TRAIN, SEGMENT, LEAVE_OUT = "train", "segment", "leave out"
ROLES = (TRAIN, SEGMENT, LEAVE_OUT)
QUICK, NORMAL, THOROUGH = "quick", "normal", "thorough"
BUDGET_MINUTES = {QUICK: 5.0, NORMAL: 20.0, THOROUGH: 60.0}
DEVICES = ("auto", "cpu", "cuda", "mps")
_ROLE_REFERENCES = {TRAIN: "ScansToTrainOn", SEGMENT: "ScansToSegment", LEAVE_OUT: "ScansToLeaveOut"}
_REGION = "RegionOfInterest"
_LABELS = "ChosenLabels"
_CHANNELS = "Channels"


class _Stored:
    """A text in the node; of several values the first is the default."""

    def __init__(self, name: str, *values: str) -> None:
        self._name, self._values = name, values

    def __get__(self, choices: PanelChoices, kind: type) -> str:
        text = choices.node.GetParameter(self._name) or ""
        return text if text in self._values else next(iter(self._values), text)

    def __set__(self, choices: PanelChoices, text: str) -> None:
        choices.node.SetParameter(self._name, text)


class _Switch:
    """On, unless the node says no."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, choices: PanelChoices, kind: type) -> bool:
        return choices.node.GetParameter(self._name) != "no"

    def __set__(self, choices: PanelChoices, on: bool) -> None:
        choices.node.SetParameter(self._name, "" if on else "no")


class PanelChoices:
    """The choices in a vtkMRMLScriptedModuleNode. Unknown or missing values read as their defaults.

    Attributes:
        model: name of the model to segment with; "" when none is chosen.
        budget: how long to train: QUICK, NORMAL or THOROUGH.
        device: one of DEVICES.
        go_on: whether to train from the chosen model, where that is possible.
        pretrained: whether to start from the shipped pre-trained backbone otherwise.
    """

    model = _Stored("Model")
    budget = _Stored("Budget", NORMAL, QUICK, THOROUGH)
    device = _Stored("Device", *DEVICES)
    go_on = _Switch("GoOn")
    pretrained = _Switch("Pretrained")

    def __init__(self, node: Any) -> None:
        self.node = node

    def role(self, volume_id: str) -> str | None:
        """The role that the user gave a volume; None when it is left to the guess."""
        for role, reference in _ROLE_REFERENCES.items():
            if volume_id in self._references(reference):
                return role
        return None

    def set_role(self, volume_id: str, role: str | None) -> None:
        """Give a volume a role; None leaves it to the guess."""
        modified = self.node.StartModify()
        for name, reference in _ROLE_REFERENCES.items():
            kept = [other for other in self._references(reference) if other != volume_id]
            if name == role:
                kept.append(volume_id)
            if kept != self._references(reference):
                self.node.RemoveNodeReferenceIDs(reference)
                for other in kept:
                    self.node.AddNodeReferenceID(reference, other)
        self.node.EndModify(modified)

    @property
    def labels(self) -> tuple[str, ...]:
        """IDs of the segmentations that the user chose where a scan has several."""
        return tuple(self._references(_LABELS))

    def choose_label(self, chosen: str, among: Iterable[str]) -> None:
        """Take one of the segmentations of a scan, by ID; `among` are all of them."""
        kept = [other for other in self.labels if other not in set(among)]
        modified = self.node.StartModify()
        self.node.RemoveNodeReferenceIDs(_LABELS)
        for identifier in (*kept, chosen):
            self.node.AddNodeReferenceID(_LABELS, identifier)
        self.node.EndModify(modified)

    @property
    def channels(self) -> list[tuple[str, ...]]:
        """IDs of the volumes that are channels of one scan, for each such scan; of deleted ones nothing is left."""
        groups = [tuple(self._references(f"{_CHANNELS}{number}")) for number in range(self._number(_CHANNELS))]
        return [group for group in groups if len(group) > 1]

    def set_channels(self, volume_ids: Sequence[str], together: bool) -> None:
        """Make volumes the channels of one scan, in this order, or scans of their own again."""
        groups = [tuple(one for one in group if one not in volume_ids) for group in self.channels]
        groups += [tuple(volume_ids)] if together else []
        modified = self.node.StartModify()
        for number in range(max(self._number(_CHANNELS), len(groups))):
            self.node.RemoveNodeReferenceIDs(f"{_CHANNELS}{number}")
            for identifier in groups[number] if number < len(groups) else ():
                self.node.AddNodeReferenceID(f"{_CHANNELS}{number}", identifier)
        self.node.SetParameter(_CHANNELS, str(len(groups)) if groups else "")
        self.node.EndModify(modified)

    @property
    def region(self) -> Any | None:
        """The markups ROI that bounds training and segmentation, if any."""
        return self.node.GetNodeReference(_REGION)

    @region.setter
    def region(self, roi: Any | None) -> None:
        self.node.SetNodeReferenceID(_REGION, None if roi is None else roi.GetID())

    @property
    def region_stamp(self) -> tuple[str, int] | None:
        """What tells the region from others, and from what it was before it was moved."""
        region = self.region
        return None if region is None else (region.GetID(), region.GetMTime())

    @property
    def region_name(self) -> str:
        """Its name; "" for none."""
        region = self.region
        return "" if region is None else str(region.GetName())

    @property
    def steps(self) -> int:
        """Number of training steps instead of the budget's minutes; 0 for the minutes."""
        return self._number("Steps")

    @steps.setter
    def steps(self, steps: int) -> None:
        self.node.SetParameter("Steps", str(steps) if steps else "")

    def _references(self, role: str) -> list[str]:
        return [self.node.GetNthNodeReferenceID(role, n) for n in range(self.node.GetNumberOfNodeReferences(role))]

    def _number(self, name: str) -> int:
        text = self.node.GetParameter(name) or ""
        return int(text) if text.isascii() and text.isdigit() else 0
