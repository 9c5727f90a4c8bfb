"""A DICOM series, written slice by slice as scanners do, with a patient in its tags."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

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


def edit_slices(folder: Path, change: Callable[[Any, int], None]) -> None:
    """Change the tags of a series that was written: `change(dataset, k)` for each file, in the order of their names."""
    import pydicom

    for k, file in enumerate(sorted(folder.iterdir())):
        dataset = pydicom.dcmread(file)
        change(dataset, k)
        dataset.save_as(file)


def write_frames(
    file: Path, image: sitk.Image, order: Sequence[int] | None = None, change: Callable[[Any], None] | None = None
) -> None:
    """Write all slices of an image into one file (enhanced CT), its frames in any order; `change` edits it."""
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import EnhancedCTImageStorage, ExplicitVRLittleEndian, generate_uid

    order = range(image.GetSize()[2]) if order is None else order
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = EnhancedCTImageStorage, generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID, data.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    data.PatientName, data.PatientID, data.Modality, data.SeriesNumber = PATIENT, "4711", "CT", 3
    data.StudyInstanceUID, data.SeriesInstanceUID, data.FrameOfReferenceUID = (generate_uid() for _ in range(3))
    data.Columns, data.Rows, data.NumberOfFrames = *image.GetSize()[:2], len(order)
    data.SamplesPerPixel, data.PhotometricInterpretation, data.PixelRepresentation = 1, "MONOCHROME2", 1
    data.BitsAllocated, data.BitsStored, data.HighBit = 16, 16, 15
    direction, (across, down, _) = np.array(image.GetDirection()).reshape(3, 3), image.GetSpacing()
    rows = [round(float(part), 9) for part in (*direction[:, 0], *direction[:, 1])]
    shared = {"PlaneOrientationSequence": {"ImageOrientationPatient": rows}}
    shared["PixelMeasuresSequence"] = {"PixelSpacing": [down, across]}
    data.SharedFunctionalGroupsSequence = [_groups(shared)]
    places = [[round(x, 6) for x in image.TransformIndexToPhysicalPoint((0, 0, k))] for k in order]
    data.PerFrameFunctionalGroupsSequence = [
        _groups({"PlanePositionSequence": {"ImagePositionPatient": place}}) for place in places
    ]
    data.PixelData = sitk.GetArrayFromImage(image).astype(np.int16)[list(order)].tobytes()
    if change is not None:
        change(data)
    file.parent.mkdir(parents=True, exist_ok=True)
    data.save_as(file, enforce_file_format=True)


def _groups(fields: dict[str, dict[str, Any]]) -> Any:
    """A dataset with a sequence of one item for each entry."""
    from pydicom.dataset import Dataset

    groups = Dataset()
    for name, values in fields.items():
        item = Dataset()
        for key, value in values.items():
            setattr(item, key, value)
        setattr(groups, name, [item])
    return groups


def set_group(groups: Any, name: str, **values: Any) -> None:
    """Give a frame of an enhanced file, or all of them, a functional group."""
    setattr(groups, name, _groups({name: values})[name].value)
