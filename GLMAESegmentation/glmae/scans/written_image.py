"""Writing label maps: without metadata of the patient, whole or not at all."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import SimpleITK as sitk

from ..files import itk_path, writing


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
        if _unpacked_size(temporary) < size:
            raise RuntimeError("the end of the file is missing, the disk may be full")

    writing(Path(path), write)


def _unpacked_size(path: Path) -> int:
    """Bytes of voxels (and of the NIfTI header) in a packed file; 0 if its end is missing."""
    size = 0
    try:
        with path.open("rb") as file:
            if file.read(4) == b"NRRD":
                while file.readline().strip():  # the header ends with an empty line
                    pass
            else:
                file.seek(0)
            with gzip.GzipFile(fileobj=file) as packed:
                while block := packed.read(1 << 22):
                    size += len(block)
    except (EOFError, zlib.error, gzip.BadGzipFile):
        return 0
    return size
