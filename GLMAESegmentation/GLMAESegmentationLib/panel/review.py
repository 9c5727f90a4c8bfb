"""Results in the scene as they are looked at: in which order, which of them a person made labels, which may go."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from ..scene.choices import TRAIN, PanelChoices
from ..scene.scan_choice import review_order
from ..scene.scan_table import Scan
from ..scene.scene_cases import find_cases
from ..scene.segment_voxels import OnceAChange
from ..scene.segmentation_import import accept_result, is_corrected, is_result


class Review:
    """The results of one scene."""

    def __init__(self, scene: Any, choices: Callable[[], PanelChoices]) -> None:
        self._scene, self._choices = scene, choices
        self._corrected = OnceAChange(is_corrected)

    def step(self, scans: Sequence[Scan], selected: str, by: int) -> str:
        """The volume to show `by` places after the selected one; there must be a result."""
        order = [scan.volume_id for scan in review_order(scans)]
        place = order.index(selected) + by if selected in order else min(0, by)
        return order[place % len(order)]

    def accept(self, scans: Sequence[Scan], scan: Scan) -> str:
        """Make the result of a scan its label; the volume to show next."""
        shown = scan.volume_id
        if len(order := [one.volume_id for one in review_order(scans)]) > 1 and shown in order:
            shown = self.step(scans, shown, 1)
        accept_result(self._scene.GetNodeByID(scan.result_id))
        self._choices().set_role(scan.volume_id, TRAIN)
        self._choices().choose_label(scan.result_id, [scan.result_id, *(node for node, _name in scan.candidates)])
        return shown

    def adopt_corrected(self, most: int | None = None) -> int:
        """Results that the user has changed become labels; how many were looked at, `most` at a time."""
        looked = 0
        for node in [node for case in find_cases(self._scene) for node in case.results]:
            if self._corrected.known(node) is None:
                if looked == most:
                    break
                looked += 1
            if self._corrected.of(node):
                accept_result(node)
        return looked

    def look(self, counts: OnceAChange[dict[str, int]]) -> bool:
        """See what was corrected, count what was drawn, one node at a time; whether there was something."""
        if self.adopt_corrected(most=1):
            return True
        choices = self._choices()
        for case in find_cases(self._scene, choices.labels, choices.channels):
            if case.segmentation is not None and counts.known(case.segmentation) is None:
                counts.of(case.segmentation)
                return True
        return False

    def left(self, identifiers: Iterable[str]) -> list[Any]:
        """Those of some results that are still in the scene and were not accepted."""
        nodes = [self._scene.GetNodeByID(identifier) for identifier in identifiers]
        return [node for node in nodes if node is not None and is_result(node)]

    def removable(self, identifiers: Iterable[str]) -> list[Any]:
        """Those of some results that nobody has accepted or corrected."""
        return [node for node in self.left(identifiers) if not self._corrected.of(node)]

    def remove(self, identifiers: Iterable[str], asked: Sequence[str]) -> None:
        """Remove those of some results that were asked about and that nobody has accepted or corrected since."""
        for node in self.removable(identifiers):
            if node.GetID() in asked:
                self._scene.RemoveNode(node)
        self.adopt_corrected()
