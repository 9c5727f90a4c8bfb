"""Writing label maps: without metadata of the patient, whole or not at all."""

from __future__ import annotations

from pathlib import Path

import SimpleITK as sitk

from ..files import itk_path, writing
from .classes import ClassTable
from .file_content import size_in, text_header


def plain_labels(image: sitk.Image, classes: ClassTable) -> sitk.Image:
    """A copy of a label map with the values of `classes`, UInt8 or, for values over 255, UInt16; without metadata."""
    small = max(classes.values, default=0) <= 255
    plain = sitk.Cast(image, sitk.sitkUInt8 if small else sitk.sitkUInt16)
    for key in plain.GetMetaDataKeys():
        plain.EraseMetaData(key)
    return plain


def write_labelmap(path: Path, image: sitk.Image, classes: ClassTable) -> None:
    """Write a label map with the values of the training labels as NIfTI, whole or not at all.

    Args:
        image: 3D image with the values of `classes`; 0 is background.
        classes: decides the pixel type (values over 255 need 16 bits).

    Raises:
        StorageError: it cannot be written.
    """
    write_image(path, plain_labels(image, classes))


def write_image(path: Path, image: sitk.Image) -> None:
    """Write a compressed `.nii.gz` or `.nrrd`.

    The writers of both formats do not notice when the last of their buffers finds the disk full, and report success;
    so the file is unpacked once before it gets its name.

    Raises:
        StorageError: it cannot be written.
    """

    def write(temporary: Path) -> None:
        sitk.WriteImage(image, itk_path(temporary), True)
        size = image.GetNumberOfPixels() * image.GetNumberOfComponentsPerPixel() * image.GetSizeOfPixelComponent()
        if size_in(temporary, text_header(temporary)[1], packed=True) < size:
            raise RuntimeError("the end of the file is missing, the disk may be full")

    writing(Path(path), write)
