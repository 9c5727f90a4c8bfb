"""Which scans, and which part of them, a job writes into its folder of cases."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from glmae.errors import RequestError

from ..scene.region_box import Box, region_box
from ..scene.scan_table import Scan
from ..scene.scene_cases import SceneCase
from ..translation import tr as _
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
            raise RequestError(_("{scan} is no longer in the scene; press Train again.").format(scan=scan.name))
        folder.add(SceneCase(volumes, segmentation), boxes_of(region, volumes))
        yield number


def boxes_of(region: Any | None, volumes: Sequence[Any]) -> list[Box | None]:
    """The part of each volume inside the region of interest; None for all of it.

    Raises:
        RequestError: nothing of one lies inside.
    """
    boxes = [None if region is None else region_box(region, volume) for volume in volumes]
    if region is not None and None in boxes:
        raise RequestError(
            _('{scan} lies outside of "{region}"; move the region over it, or choose no region.').format(
                scan=volumes[boxes.index(None)].GetName(), region=region.GetName()
            )
        )
    return boxes
