"""Which scans, and which part of them, a job writes into its folder of cases."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from glmae.errors import RequestError

from ..messages import say
from ..scene.region_box import Box, region_box
from ..scene.scan_table import Scan
from ..scene.scene_cases import SceneCase
from .case_folder import CaseFolder


def write_labeled(folder: CaseFolder, scans: Sequence[Scan], scene: Any, region: Any | None) -> Iterator[int]:
    """Write one labeled scan after the other; yields the number written after each.

    Raises:
        RequestError: a scan was deleted meanwhile, or does not meet the region.
        ScanError: a scan cannot be written.
    """
    for number, scan in enumerate(scans, start=1):
        volumes, segmentation = scan.volumes(scene), scene.GetNodeByID(scan.segmentation_id)
        if not volumes or segmentation is None:
            raise RequestError(say("gone from training", scan=scan.name))
        folder.add(SceneCase(volumes, segmentation), boxes_of(region, volumes))
        yield number


def boxes_of(region: Any | None, volumes: Sequence[Any]) -> list[Box | None]:
    """The part of each volume inside the region of interest; None for all of it.

    Raises:
        RequestError: nothing of one lies inside.
    """
    boxes = [None if region is None else region_box(region, volume) for volume in volumes]
    if region is not None and None in boxes:
        scan = volumes[boxes.index(None)].GetName()
        raise RequestError(say("outside region", scan=scan, region=region.GetName()))
    return boxes
