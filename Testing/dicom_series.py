"""A DICOM series, written slice by slice as scanners do, with a patient in its tags."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK as sitk

PATIENT = "Musterfrau^Erika"


def write_series(
    folder: Path,
    image: sitk.Image,
    number: int = 3,
    names: list[int] | None = None,
    shift: float = 0.0,
    uid: int | None = None,
    tags: dict[str, str] | None = None,
) -> None:
    """Write slices as files; `uid` tells the series' identifier where it is not that of its number."""
    own, uid = tags or {}, number if uid is None else uid
    folder.mkdir(parents=True, exist_ok=True)
    writer = sitk.ImageFileWriter()
    writer.SetImageIO("GDCMImageIO")
    writer.KeepOriginalImageUIDOn()
    direction = image.GetDirection()
    for k in range(image.GetSize()[2]):
        piece = image[:, :, k]
        origin = np.array(image.TransformIndexToPhysicalPoint((0, 0, k))) + np.array((0, shift * k, 0))
        tags_here = {
            "0010|0010": PATIENT,
            "0010|0020": "4711",
            "0010|0030": "19640812",
            "0008|0060": "CT",
            "0008|103e": f"Chest of {PATIENT}",
            "0020|000d": "1.2.826.0.1.3680043.2.1125.1",
            "0020|000e": f"1.2.826.0.1.3680043.2.1125.1.{uid}",
            "0008|0018": f"1.2.826.0.1.3680043.2.1125.1.{number}.{uid}.{k + 1}",
            "0020|0052": "1.2.826.0.1.3680043.2.1125.2",
            "0008|0020": "20260101",
            "0008|0030": "120000",
            "0008|0050": "77",
            "0020|0010": "1",
            "0020|0011": str(number),
            "0020|0013": str(k + 1),
            "0020|0032": "\\".join(f"{x:.6f}" for x in origin),
            "0020|0037": "\\".join(f"{direction[i]:.9f}" for i in (0, 3, 6, 1, 4, 7)),
            "0018|0050": f"{image.GetSpacing()[2]}",
            "0028|1052": "-1024",
            "0028|1053": "1",
            "0028|0030": f"{image.GetSpacing()[1]}\\{image.GetSpacing()[0]}",
        }
        for key, value in (tags_here | own).items():
            piece.SetMetaData(key, value)
        # File names in an order of their own: slices are sorted by position.
        name = k if names is None else names[k]
        writer.SetFileName(str(folder / f"IM{number}{name:04d}"))
        writer.Execute(piece)
