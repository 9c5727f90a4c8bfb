"""Reading scans: NIfTI, NRRD, MetaImage or a DICOM folder in, a checked 3D image out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ..errors import ScanError
from ..events import Events, silent
from ..files import itk_path, last_line, may_read
from .dicom import DicomSeries, read_series
from .geometry import Geometry
from .nifti import is_nifti, is_whole, non_finite
from .resampling import resample

IMAGE_ENDINGS = (".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd")
SEGMENTATION_ENDINGS = (".seg.nrrd", ".seg.nhdr")

# ITK prints its warnings past Python to standard error, where front ends look for real failures.
sitk.ProcessObject.SetGlobalWarningDisplay(False)

_WIDE = {sitk.sitkFloat64, sitk.sitkInt64, sitk.sitkUInt64, sitk.sitkUInt32}


def image_ending(path: Path) -> str | None:
    """The ending of `path` that makes it an image or segmentation (`.seg.nrrd` is one ending), else None."""
    name = path.name.lower()
    return next((ending for ending in (*SEGMENTATION_ENDINGS, *IMAGE_ENDINGS) if name.endswith(ending)), None)


def read_image(path: Path | DicomSeries, events: Events | None = None) -> sitk.Image:
    """Read one channel of a scan.

    Args:
        path: an image file, a DICOM series or a folder with one.
        events: told when single voxels had to be replaced.

    Returns:
        A 3D scalar image in the type of the file (64-bit types as float32), every voxel finite, without metadata.

    Raises:
        ScanError: the file is missing, unreadable, incomplete, not a 3D scalar image, or holds no picture.
    """
    image = read_series(path) if isinstance(path, DicomSeries) or path.is_dir() else load(path)
    if image.GetNumberOfComponentsPerPixel() > 1:
        raise ScanError(
            f"{path} is a colour or vector image ({image.GetNumberOfComponentsPerPixel()} values a voxel); "
            "convert it to one grey value a voxel."
        )
    if "complex" in image.GetPixelIDTypeAsString():
        raise ScanError(f"{path} holds complex numbers; export the magnitude image.")
    if min(image.GetSize()) < 2:
        raise ScanError(f"{path} is only {'x'.join(map(str, image.GetSize()))} voxels, a flat picture; give a 3D scan.")
    if image.GetPixelID() in _WIDE:
        image = sitk.Cast(image, sitk.sitkFloat32)
    return _checked_values(path, image, events or silent())


def read_channels(paths: Sequence[Path | DicomSeries], events: Events | None = None) -> list[sitk.Image]:
    """Read the channels of a scan; the first gives the grid, others are resampled to it (linear) with a warning.

    Raises:
        ScanError: see `read_image`; or a channel lies somewhere else altogether.
    """
    events = events or silent()
    images = [read_image(path, events) for path in paths]
    grid = Geometry.of(images[0])
    for number in range(1, len(images)):
        here = Geometry.of(images[number])
        if here.same_grid(grid):
            grid.place(images[number])
            continue
        if not _overlap(here, grid):
            raise ScanError(f"{paths[number]} does not lie where {paths[0]} does; register the channels to each other.")
        events.warning(
            f"{paths[number]} ({here.describe()}) was resampled to the grid of {paths[0]} ({grid.describe()}).",
            file=str(paths[number]),
        )
        images[number] = resample(images[number], grid, outside=None)
    return images


def load(path: Path) -> sitk.Image:
    """Read a file as a 3D image of any pixel type (several values a voxel too), checked to be whole, without metadata.

    Raises:
        ScanError: the file is missing, no image, incomplete, or has not three dimensions.
    """
    path = Path(path)
    header = read_header(path)
    size = header.GetSize()
    if header.GetDimension() > 3 and any(n > 1 for n in size[3:]):
        raise ScanError(
            f"{path} has {len(size)} dimensions ({'x'.join(map(str, size))}); save one 3D volume of it, "
            "for example the one time point to be segmented."
        )
    if header.GetDimension() < 3:
        raise ScanError(f"{path} is a 2D picture; give a 3D scan.")
    if is_nifti(header) and not is_whole(header):
        raise ScanError(f"{path} is incomplete, the end of the scan is missing; copy or export it again.")
    try:
        image = sitk.ReadImage(itk_path(path))
    except (RuntimeError, MemoryError) as error:
        raise _unreadable(path, error) from error
    if image.GetDimension() > 3:
        image = image[(slice(None), slice(None), slice(None), *([0] * (image.GetDimension() - 3)))]
    # Headers carry names and dates of birth at times; nothing of that may reach what is written later.
    for key in image.GetMetaDataKeys():
        image.EraseMetaData(key)
    return image


def read_header(path: Path) -> sitk.ImageFileReader:
    """Read size, grid and metadata of an image file, not its voxels.

    Raises:
        ScanError: the file is missing or no image.
    """
    if not path.is_file():
        raise ScanError(f"{path} does not exist; check the path.")
    if not may_read(path):
        raise ScanError(f"{path} cannot be read: no permission; ask its owner, or copy it to a folder of your own.")
    reader = sitk.ImageFileReader()
    reader.SetFileName(itk_path(path))
    try:
        reader.ReadImageInformation()
    except (RuntimeError, MemoryError) as error:
        raise _unreadable(path, error) from error
    return reader


def _unreadable(path: Path, error: BaseException) -> ScanError:
    text = str(error)
    if path.stat().st_size == 0:
        return ScanError(f"{path} is empty; copy or export it again.")
    if "orthonormal" in text:
        return ScanError(f"{path} has slanted axes (such as a gantry tilt); resample it to a rectangular grid first.")
    if "Unable to determine ImageIO" in text or "not a recognized" in text:
        return ScanError(f"{path} is not an image of the kind its name says, or is damaged; export the scan again.")
    if isinstance(error, MemoryError) or "memory" in text.lower():
        return ScanError(f"{path} does not fit into memory; close other programs or crop the scan.")
    return ScanError(f"{path} is damaged or incomplete ({last_line(error)}); copy or export it again.")


def _checked_values(path: Path | DicomSeries, image: sitk.Image, events: Events) -> sitk.Image:
    voxels = sitk.GetArrayViewFromImage(image)
    if voxels.dtype.kind == "f":
        bad = np.flatnonzero(~np.isfinite(voxels))
        if isinstance(path, Path) and path.is_file() and is_nifti(header := read_header(path)):
            bad = np.union1d(bad, non_finite(header))
        if len(bad) == voxels.size:
            raise ScanError(f"{path} holds no number at all (NaN or infinity everywhere); export the scan again.")
        if len(bad):
            grid, values = Geometry.of(image), sitk.GetArrayFromImage(image).reshape(-1)
            values[bad] = np.nan
            lowest = np.nanmin(values)
            values[bad] = lowest
            image = sitk.GetImageFromArray(values.reshape(voxels.shape))
            grid.place(image)
            voxels = sitk.GetArrayViewFromImage(image)
            events.warning(
                f"{path} has {len(bad)} voxels that are not numbers; they were set to the lowest value, {lowest:g}.",
                file=str(path),
            )
    if voxels.min() == voxels.max():
        raise ScanError(f"{path} has the same value, {float(voxels.flat[0]):g}, everywhere; export the scan again.")
    return image


def _overlap(first: Geometry, second: Geometry) -> bool:
    """Whether the bounding boxes (along the patient's axes) of two grids meet."""
    one, two = first.corners(), second.corners()
    return bool((one.min(axis=0) < two.max(axis=0)).all() and (two.min(axis=0) < one.max(axis=0)).all())
