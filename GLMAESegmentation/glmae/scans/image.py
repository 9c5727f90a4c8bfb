"""Reading scans: NIfTI, NRRD, MetaImage or a DICOM folder in, a checked 3D image out."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ..errors import ScanError
from ..events import Events, silent
from ..files import check_name, has_utf8_name, itk_path, last_line, may_read
from .dicom import DicomSeries
from .dicom_volume import read_series
from .file_content import check_text_header, content_under_name, is_metaimage, missing_data_file
from .freesurfer import FREESURFER_ENDINGS, is_freesurfer, read_freesurfer
from .geometry import Geometry
from .nifti import check_nifti, non_finite, two_places
from .resampling import resample

ITK_ENDINGS = (".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd")
IMAGE_ENDINGS = (*ITK_ENDINGS, *FREESURFER_ENDINGS)
SEGMENTATION_ENDINGS = (".seg.nrrd", ".seg.nhdr")

# ITK prints its warnings past Python to standard error, where front ends look for real failures.
sitk.ProcessObject.SetGlobalWarningDisplay(False)

# Largest deviation from axes of length 1 at right angles: directions are written with few digits.
_SLANTED = 3e-3
_FEW_VALUES = 8
_LARGEST_VOXEL, _SMALLEST_SCAN = 100.0, 1.0  # mm
_READERS = ("NiftiImageIO", "NrrdImageIO", "MetaImageIO")
_WIDE = {sitk.sitkFloat64, sitk.sitkInt64, sitk.sitkUInt64, sitk.sitkUInt32}


def image_ending(path: Path) -> str | None:
    """The ending of `path` that makes it an image or segmentation (`.seg.nrrd` is one ending), else None."""
    name = path.name.lower()
    return next((ending for ending in (*SEGMENTATION_ENDINGS, *IMAGE_ENDINGS) if name.endswith(ending)), None)


def read_image(path: Path | DicomSeries, events: Events | None = None) -> sitk.Image:
    """Read one channel of a scan.

    Args:
        path: an image file, a DICOM series or a folder with one.
        events: told when single voxels had to be replaced, and what is odd about the file.

    Returns:
        A 3D scalar image in the type of the file (64-bit types as float32), every voxel finite, without metadata.

    Raises:
        ScanError: the file is missing, unreadable, incomplete, not a 3D scalar image, or holds no picture.
    """
    if isinstance(path, DicomSeries) or path.is_dir():
        image = read_series(path)
        check_grid(path, Geometry.of(image))
    else:
        image = load(path, events)
    if image.GetNumberOfComponentsPerPixel() > 1:
        raise ScanError(
            f"{path} is a color or vector image ({image.GetNumberOfComponentsPerPixel()} values a voxel); "
            "convert it to one gray value a voxel."
        )
    if min(image.GetSize()) < 2:
        raise ScanError(f"{path} is only {'x'.join(map(str, image.GetSize()))} voxels, a flat picture; give a 3D scan.")
    check_unit(str(path), image.GetSize(), image.GetSpacing())
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


def load(path: Path, events: Events | None = None) -> sitk.Image:
    """Read a file as a 3D image of any pixel type (several values a voxel too), checked to be whole, without metadata.

    Raises:
        ScanError: the file is missing, no image, incomplete, has not three dimensions, or no rectangular grid in mm.
    """
    path = Path(path)
    if is_freesurfer(path):
        _check_file(path)
        image = read_freesurfer(path)
    else:
        image = _load(path, events or silent())
    check_grid(path, Geometry.of(image))
    return image


def read_header(path: Path) -> sitk.ImageFileReader:
    """Read size, grid and metadata of an image file that ITK knows, not its voxels.

    Raises:
        ScanError: the file is missing or no image.
    """
    _check_file(path)
    reader = sitk.ImageFileReader()
    reader.SetFileName(itk_path(path))
    if path.suffix.lower() in (".mha", ".mhd"):
        if not is_metaimage(path):
            raise _unreadable(path, RuntimeError("not a recognized header"))
        reader.SetImageIO("MetaImageIO")  # it would not be found for an ending in capitals
    elif path.name.lower().endswith((".nii", ".nii.gz")):
        check_nifti(path)
    try:
        reader.ReadImageInformation()
    except (RuntimeError, MemoryError) as error:
        raise _unreadable(path, error) from error
    if reader.GetImageIOFromFileName(reader.GetFileName()) not in _READERS and not reader.GetImageIO():
        raise _unreadable(path, RuntimeError("not a recognized header"))
    return reader


def check_grid(name: Path | DicomSeries, grid: Geometry) -> None:
    """Refuse voxels without a size, and axes that are not at right angles: not every format could hold them.

    Raises:
        ScanError: the grid is not rectangular.
    """
    numbers = np.array([*grid.spacing, *grid.origin, *grid.direction])
    if not np.isfinite(numbers).all() or min(grid.spacing) <= 0:
        raise ScanError(f"{name} has no voxel size in its header; save it again with its spacing.")
    axes = np.array(grid.direction).reshape(3, 3)
    if np.abs(axes.T @ axes - np.eye(3)).max() > _SLANTED:
        raise ScanError(f"{name} has slanted axes (such as a gantry tilt); resample it to a rectangular grid first.")


def check_unit(name: str, size: Sequence[int], spacing: Sequence[float]) -> None:
    """Refuse voxels, or scans, of a size that nothing in a body has.

    Args:
        size: voxels along I, J, K.
        spacing: mm along I, J, K.

    Raises:
        ScanError: the unit must be another one.
    """
    largest, width = max(spacing), max(n * side for n, side in zip(size, spacing, strict=False))
    if largest > _LARGEST_VOXEL:
        what = f"its voxels are {largest:g} mm"
    elif width < _SMALLEST_SCAN:
        what = f"all of it is {width:.2g} mm wide"
    else:
        return
    raise ScanError(f"{name}: {what}, so the unit in its header is probably wrong; save it again in mm.")


def _load(path: Path, events: Events) -> sitk.Image:
    header = read_header(path)
    size = header.GetSize()
    if header.GetDimension() > 3 and any(n > 1 for n in size[3:]):
        raise ScanError(
            f"{path} has {len(size)} dimensions ({'x'.join(map(str, size))}); save one 3D volume of it, "
            "for example the one time point to be segmented."
        )
    if header.GetDimension() < 3:
        raise ScanError(f"{path} is a 2D picture; give a 3D scan.")
    if "complex" in (kind := sitk.GetPixelIDValueAsString(header.GetPixelID())):
        raise ScanError(f"{path} holds complex numbers; export the magnitude image, or another with one real number.")
    if missing_data_file(path):  # its reader complains past Python to standard error
        raise _unreadable(path, RuntimeError())
    if twice := two_places(path, header):
        events.warning(f"{path}: {twice}.", file=str(path), check="geometry")
    one = sitk.Image([1] * len(size), header.GetPixelID(), header.GetNumberOfComponents() if "vector" in kind else 0)
    check_text_header(path, math.prod(size) * header.GetNumberOfComponents() * one.GetSizeOfPixelComponent())
    try:
        image = header.Execute()
    except (RuntimeError, MemoryError) as error:
        raise _unreadable(path, error) from error
    if image.GetDimension() > 3:
        image = image[(slice(None), slice(None), slice(None), *([0] * (image.GetDimension() - 3)))]
    if "vector" in kind and image.GetNumberOfComponentsPerPixel() == 1:
        image = sitk.VectorIndexSelectionCast(image, 0)
    # Headers carry names and dates of birth at times; nothing of that may reach what is written later.
    keys = image.GetMetaDataKeys()
    if any(not has_utf8_name(key) for key in keys):  # these cannot be named to the library
        return Geometry.of(image).image(sitk.GetArrayViewFromImage(image))
    for key in keys:
        image.EraseMetaData(key)
    return image


def _check_file(path: Path) -> None:
    check_name(path)
    if not path.is_file():
        raise ScanError(f"{path} does not exist; check the path.")
    if not may_read(path):
        raise ScanError(f"{path} cannot be read: no permission; ask its owner, or copy it to a folder of your own.")
    if path.stat().st_size == 0:
        raise ScanError(f"{path} is empty; copy or export it again.")


def _unreadable(path: Path, error: BaseException) -> ScanError:
    text = str(error)
    if "Refusing to change spacing" in text or re.search(r"spacing \(.*\) invalid", text):
        return ScanError(f"{path} has no voxel size in its header; save it again with its spacing.")
    if "determinant" in text:
        return ScanError(f"{path} has axes in its header that lie in one plane; save it again.")
    if "orthonormal" in text:
        return ScanError(f"{path} has slanted axes (such as a gantry tilt); resample it to a rectangular grid first.")
    kinds = {".nr": "NRRD", ".nh": "NRRD", ".mh": "MetaImage"}
    if what := content_under_name(path, kinds.get(path.suffix.lower()[:3], "NIfTI")):
        return ScanError(f"{path} {what}.")
    if isinstance(error, MemoryError) or "memory" in text.lower():
        return ScanError(f"{path} does not fit into memory; close other programs or crop the scan.")
    if missing := missing_data_file(path):
        return ScanError(
            f"{path} names the file {missing} for its voxels, which is not there; put it beside the header."
        )
    if "Unable to determine ImageIO" in text or "not a recognized" in text:
        return ScanError(f"{path} is not an image of the kind its name says, or is damaged; export the scan again.")
    # "Reason:" is the system's last error, which may be that of something else.
    reason = f" ({last_line(error)})" if "Reason:" not in text else ""
    return ScanError(f"{path} cannot be read{reason}; copy or export it again.")


def _checked_values(path: Path | DicomSeries, image: sitk.Image, events: Events) -> sitk.Image:
    voxels = sitk.GetArrayViewFromImage(image)
    if voxels.dtype.kind == "f":
        bad = np.flatnonzero(~np.isfinite(voxels))
        if isinstance(path, Path):
            bad = np.union1d(bad, non_finite(path))
        if len(bad) == voxels.size:
            raise ScanError(f"{path} holds no number at all (NaN or infinity everywhere); export the scan again.")
        if len(bad):
            values = sitk.GetArrayFromImage(image).reshape(-1)
            values[bad] = np.nan
            lowest = np.nanmin(values)
            values[bad] = lowest
            image = Geometry.of(image).image(values.reshape(voxels.shape))
            voxels = sitk.GetArrayViewFromImage(image)
            events.warning(
                f"{path} has {len(bad)} voxels that are not numbers; they were set to the lowest value, {lowest:g}.",
                file=str(path),
            )
    if voxels.min() == voxels.max():
        raise ScanError(f"{path} has the same value, {float(voxels.flat[0]):g}, everywhere; export the scan again.")
    if few := _few_values(voxels):
        events.warning(
            f"{path} holds only {few} values, as a label map does; make sure that it is a scan.", file=str(path)
        )
    return image


def _few_values(voxels: np.ndarray) -> int:
    """How many different values an image has, if that is no more than label maps of a few structures have; else 0."""
    found: set[float] = set()
    for slab in voxels:
        found.update(np.unique(slab).tolist())
        if len(found) > _FEW_VALUES:
            return 0
    return len(found)


def _overlap(first: Geometry, second: Geometry) -> bool:
    """Whether the bounding boxes (along the patient's axes) of two grids meet."""
    one, two = first.corners(), second.corners()
    return bool((one.min(axis=0) < two.max(axis=0)).all() and (two.min(axis=0) < one.max(axis=0)).all())
