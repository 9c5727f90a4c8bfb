"""The scans of the scene as the panel shows them: state, segmentation, role."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from glmae.scans.classes import plain_name

from .choices import LEAVE_OUT, SEGMENT, TRAIN, PanelChoices
from .proposals import is_proposal
from .scan_kind import is_alike, scan_kind
from .scene_cases import SceneCase, is_partly_labeled
from .segment_voxels import OnceAChange, segments, voxel_ml
from .segmentation_import import is_accepted

UNLABELED, PARTLY, LABELED = "unlabeled", "partly labeled", "labeled"
SEGMENTED, CORRECTED, FAILED = "segmented", "corrected", "failed"
MODEL_ATTRIBUTE = "GLMAESegmentation.Model"
# What is doubtful about a result, a line each; and how unsure the model was, 0-1.
DOUBT_ATTRIBUTE = "GLMAESegmentation.Doubt"
UNCERTAINTY_ATTRIBUTE = "GLMAESegmentation.Uncertainty"


@dataclass(frozen=True)
class Scan:
    """One row of the table.

    Attributes:
        volume_id: ID of its volume node.
        name: of the volume; of several channels all names.
        state: one of the six above.
        role: TRAIN, SEGMENT or LEAVE_OUT.
        segmentation_id: of the drawn or accepted segmentation; "" when there is none.
        result_id: of the newest result that was not accepted yet; "" when there is none.
        result_model: name of the model that made that result.
        segmentation: name of what is shown as its segmentation, and `shown_id` its ID; "" when there is none.
        proposal: whether that result is replaced when labels change.
        doubts: what is doubtful about the result, a sentence each.
        uncertainty: of the model about the result, 0-1; 0 when unknown.
        voxels: of each class drawn in it, by name; None while they are being counted.
        voxel_ml: volume of one of them, mL.
        failure: why it could not be segmented; "" if it could.
        empty: names of its segments in which nothing was drawn.
        partly: whether only the part of it that holds labels was looked at.
        candidates: ID and name of each drawn segmentation, the one that counts first.
        channels: IDs of all its volumes, the one of `volume_id` first.
        unlike: whether it looks like another kind of image than the labeled scans.
    """

    volume_id: str
    name: str
    state: str
    role: str
    segmentation_id: str = ""
    result_id: str = ""
    result_model: str = ""
    proposal: bool = False
    segmentation: str = ""
    shown_id: str = ""
    doubts: tuple[str, ...] = ()
    uncertainty: float = 0.0
    voxels: Mapping[str, int] | None = field(default_factory=dict)
    voxel_ml: float = 0.0
    failure: str = ""
    empty: tuple[str, ...] = ()
    partly: bool = False
    candidates: tuple[tuple[str, str], ...] = ()
    channels: tuple[str, ...] = ()
    unlike: bool = False

    def volumes(self, scene: Any) -> tuple[Any, ...]:
        """The nodes of its channels; empty when one of them is no longer in the scene."""
        nodes = tuple(scene.GetNodeByID(identifier) for identifier in self.channels or (self.volume_id,))
        return nodes if all(node is not None for node in nodes) else ()

    @property
    def trainable(self) -> bool:
        """Whether there is a label to train on."""
        return bool(self.segmentation_id) and (self.voxels is None or any(self.voxels.values()))


def scan_table(
    cases: Sequence[SceneCase], choices: PanelChoices, counts: OnceAChange[dict[str, int]], failures: Mapping[str, str]
) -> list[Scan]:
    """The rows for the cases of a scene.

    Args:
        cases: of the scene.
        choices: of the user.
        counts: the voxels that were counted so far; what is not counted yet is not counted here.
        failures: why a scan could not be segmented, by the ID of its volume.
    """
    drawn = [_voxels(case.segmentation, counts) for case in cases]
    known = {plain_name(name) for voxels in drawn for name, count in (voxels or {}).items() if count}
    kinds = [scan_kind(case.volumes[0]) for case in cases]
    labeled = {kind for kind, voxels in zip(kinds, drawn, strict=True) if voxels is None or any(voxels.values())}
    return [
        _scan(case, voxels, known, not is_alike(kind, labeled), choices, failures)
        for case, voxels, kind in zip(cases, drawn, kinds, strict=True)
    ]


def _scan(
    case: SceneCase,
    voxels: Mapping[str, int] | None,
    known: set[str],
    unlike: bool,
    choices: PanelChoices,
    failures: Mapping[str, str],
) -> Scan:
    volume, drawn = case.volumes[0], case.segmentation
    result = case.results[-1] if case.results else None
    failure = failures.get(volume.GetID(), "")
    here = {plain_name(name) for name, count in (voxels or {}).items() if count}
    partly = is_partly_labeled(drawn)
    if drawn is not None and (here or voxels is None):
        state = CORRECTED if is_accepted(drawn) else LABELED
        if voxels is not None and (here < known or partly):
            state = PARTLY
    else:
        state = FAILED if failure else UNLABELED if result is None else SEGMENTED
    chosen = choices.role(volume.GetID())
    shown = drawn if here or (drawn is not None and result is None) else result
    return Scan(
        volume_id=volume.GetID(),
        name=" + ".join(channel.GetName() or "" for channel in case.volumes),
        state=state,
        role=chosen or (TRAIN if state in (PARTLY, LABELED, CORRECTED) else LEAVE_OUT if unlike else SEGMENT),
        segmentation_id=drawn.GetID() if drawn is not None else "",
        result_id=result.GetID() if result is not None else "",
        result_model=(result.GetAttribute(MODEL_ATTRIBUTE) or "") if result is not None else "",
        proposal=result is not None and is_proposal(result),
        segmentation=(shown.GetName() or "") if shown is not None else "",
        shown_id=shown.GetID() if shown is not None else "",
        voxel_ml=voxel_ml(drawn),
        doubts=tuple((result.GetAttribute(DOUBT_ATTRIBUTE) or "").splitlines()) if result is not None else (),
        uncertainty=_uncertainty(result),
        voxels=voxels,
        failure=failure,
        empty=tuple(name for name, count in (voxels or {}).items() if not count),
        partly=partly,
        candidates=tuple((node.GetID(), node.GetName() or "") for node in ((drawn, *case.further) if drawn else ())),
        channels=tuple(channel.GetID() for channel in case.volumes),
        unlike=unlike and chosen is None,
    )


def _uncertainty(result: Any | None) -> float:
    try:
        return float((result.GetAttribute(UNCERTAINTY_ATTRIBUTE) if result is not None else None) or 0.0)
    except ValueError:
        return 0.0


def _voxels(segmentation: Any | None, counts: OnceAChange[dict[str, int]]) -> dict[str, int] | None:
    """Voxels by class name. Surfaces have no voxels before they are exported; they count as drawn."""
    if segmentation is None:
        return {}
    counted = counts.known(segmentation)
    if counted is None:
        return None
    voxels: dict[str, int] = {}
    for identifier, segment in segments(segmentation).items():
        name = segment.GetName() or ""
        voxels[name] = voxels.get(name, 0) + counted.get(identifier, 1)
    return voxels
