"""Proposals: results that the engine gives while scans are being labeled, each until a better one comes.

One that a person has corrected or accepted is a label of its scan and no proposal any more.
"""

from __future__ import annotations

from typing import Any

import slicer

from .segmentation_import import accept_result, is_corrected, is_result

PROPOSAL_ATTRIBUTE = "GLMAESegmentation.Proposal"


def is_proposal(segmentation: Any) -> bool:
    """Whether a node is a result that a better one may replace."""
    return is_result(segmentation) and segmentation.GetAttribute(PROPOSAL_ATTRIBUTE) == "1"


def take_proposals_away(volume: Any, drawn: str = "") -> bool:
    """Make room for a better result of a scan; whether there is room.

    A proposal that was corrected becomes a label, and the one that is open for drawing (`drawn` is its ID) stays: then
    there is none.
    """
    free = True
    for node in slicer.util.getNodesByClass("vtkMRMLSegmentationNode", volume.GetScene()):
        role = node.GetReferenceImageGeometryReferenceRole()
        if not is_proposal(node) or node.GetNodeReferenceID(role) != volume.GetID():
            continue
        if node.GetID() == drawn:
            free = False
        elif is_corrected(node):
            accept_result(node)
            free = False
        else:
            volume.GetScene().RemoveNode(node)
    return free
