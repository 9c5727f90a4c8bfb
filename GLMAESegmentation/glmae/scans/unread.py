"""Files that a user may mean as scan or label but that are not read: why, and what to do. Nobody is left to guess."""

from __future__ import annotations

import re
from pathlib import Path

from ..events import Events
from ..files import shown
from .dicom import is_dicom, modality_of
from .image import image_ending

_SAVE = "save it as .nii.gz"
_KINDS = (
    ((".hdr", ".img", ".hdr.gz", ".img.gz"), f"half of an Analyze or NIfTI pair; {_SAVE}"),
    ((".bz2", ".xz", ".zst", ".zip", ".7z", ".rar", ".tar", ".tgz", ".tar.gz", ".lzma"), "packed; unpack it"),
    ((".mnc", ".mnc.gz", ".mnc2"), f"MINC; {_SAVE}"),
    ((".mif", ".mif.gz", ".mih"), f"MRtrix; {_SAVE}"),
    ((".head", ".brik", ".brik.gz"), f"AFNI; {_SAVE}"),
    ((".par", ".rec", ".v", ".ima.gz", ".gipl", ".gipl.gz", ".vti", ".am", ".nrrd.gz"), f"of a kind not read; {_SAVE}"),
    ((".npy", ".npz", ".mat", ".h5", ".hdf5", ".pt", ".pkl", ".b2nd"), f"numbers without a place in space; {_SAVE}"),
    ((".tif", ".tiff"), f"pictures without a place in space; {_SAVE}"),
    ((".stl", ".obj", ".ply", ".vtk", ".vtp", ".gii", ".vtm"), f"a surface without voxels; {_SAVE}"),
    ((".mrb", ".mrml"), f"a scene; open it in Slicer and {_SAVE.replace('it', 'its volumes')}"),
)
_DICOM = {
    "SEG": "a DICOM segmentation; as a label it lies among the labels, under the name of its scan",
    "RTSTRUCT": "contours, RTSTRUCT; load them in Slicer and save them as .seg.nrrd",
}
# Notes, tables and pictures beside the data, and the voxels of detached headers.
_NOTES = r"\.(txt|json|[ct]sv|md|rst|pdf|docx?|odt|xlsx?|ods|log|ya?ml|toml|xml|html?|py|sh|m|r|ipynb|bval|bvec)"
_HARMLESS = re.compile(_NOTES + r"|\.(png|jpe?g|gif|svg|db|ini|lnk|ctbl|lut|z?raw|gz|md5|sha256|cfg)")
_NOTE_BYTES = 100_000  # a file without ending that is smaller is a note


def why_unread(path: Path) -> str | None:
    """Why a file that is no image by its name is not read, and what to do; None for notes and the like."""
    name = path.name.lower()
    if path.is_symlink() and not path.exists():
        return "a link to a file that is not there; get the file (datalad get) or copy it here"
    for endings, why in _KINDS:
        if name.endswith(endings):
            return why
    if _HARMLESS.fullmatch(path.suffix.lower()) or image_ending(path) is not None or not path.is_file():
        return None
    if is_dicom(path):
        if name == "dicomdir":
            return None
        return _DICOM.get(
            modality_of(path), "a DICOM file by itself; put the files of its series in a folder of their own"
        )
    if path.stat().st_size == 0:
        return "empty; copy or export it again"
    return None if path.stat().st_size < _NOTE_BYTES else f"of no kind that is read; {_SAVE}"


def warn_passed_over(path: Path, why: str, events: Events) -> None:
    """Say that a file, or a folder, is passed over."""
    events.warning(f"passed over: {shown(path)} ({why}).", file=shown(path), check="passed_over")
