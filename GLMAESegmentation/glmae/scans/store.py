"""Prepared scans on disk: memory-mapped, so that memory does not grow with the number of scans."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import SimpleITK as sitk
from numpy.lib.mixins import NDArrayOperatorsMixin

from ..errors import RequestError, ScanError, Stopped
from ..events import Events, recorded, silent
from ..files import whole_file, write_json
from ..prefetch import in_parallel
from .case import Case, image_state, label_state, state_key
from .classes import IGNORE, ClassTable
from .geometry import Geometry, Vector
from .labels import case_images, case_label
from .preparation import Preparation, prepare_image, prepare_label

# Raised whenever the same scan would be prepared differently.
_RECIPE = 4


class ScanStore:
    """The prepared scans of a job; made by `ScanStore.prepare`, opened again with its `entries`.

    A scan is an image, float16 [C, I, J, K], and where it has one a label, uint8 [I, J, K] (see `labels`): each a file
    named after a hash, and, written last, its description.
    """

    def __init__(self, folder: Path, entries: Sequence[dict[str, Any]]) -> None:
        self._folder = folder
        self._entries = tuple(entries)

    @staticmethod
    def prepare(
        folder: Path,
        cases: Sequence[Case],
        preparation: Preparation,
        classes: ClassTable | None = None,
        events: Events | None = None,
        read_failures: str = "raise",
        should_stop: Callable[[], bool] = lambda: False,
    ) -> ScanStore:
        """Prepare scans, several at once, but those that are already there, unchanged.

        Each scan is complete as soon as it is prepared: after a kill only those on which work was going on are redone.

        Args:
            cases: the scans; their order is that of the store.
            classes: the classes of the labels; None: labels are not looked at.
            read_failures: "raise", or "skip" to report a case that cannot be read and go on.

        Raises:
            ScanError: a scan or label cannot be read.
            RequestError: no scan could be read.
            StorageError: the folder cannot be written.
            Stopped: `should_stop` said so.
        """
        events = events or silent()

        def prepared(case: Case) -> tuple[dict[str, Any], list[dict[str, Any]]]:
            heard: list[dict[str, Any]] = []  # told in the order of the cases, by one thread
            return _prepare(folder, case, preparation, classes, recorded(heard)), heard

        entries = []
        events.progress("prepare", 0, len(cases))
        with closing(in_parallel(prepared, cases, voxels=lambda result: int(result[0]["voxels"]))) as coming:
            for number, (case, future) in enumerate(zip(cases, coming, strict=True), start=1):
                try:
                    entry, heard = future.result()
                except ScanError as error:
                    if read_failures != "skip":
                        raise
                    events.case(case.name, "failed", message=str(error))
                else:
                    entries.append(entry)
                    for event in heard:
                        events.emit(**event)
                events.progress("prepare", number, len(cases), case=case.name)
                if number < len(cases) and should_stop():
                    raise Stopped(f"stopped after preparing scan {number} of {len(cases)}; continue with --resume")
        if not entries:
            raise RequestError("none of the scans can be read; check that they are 3D images.")
        return ScanStore(folder, entries)

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def entries(self) -> tuple[dict[str, Any], ...]:
        """Descriptions of the scans, JSON values."""
        return self._entries

    @property
    def channels(self) -> int:
        """Channels of every scan: `prepare_image` refuses others."""
        return int(self._entries[0]["channels"])

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the cases."""
        return tuple(entry["name"] for entry in self._entries)

    def image(self, index: int) -> np.ndarray:
        """The scan, float16 [C, I, J, K], memory-mapped."""
        return np.asarray(np.load(self._file(index, "image"), mmap_mode="r"))

    def label(self, index: int) -> np.ndarray | None:
        """The label, uint8 [I, J, K] (0..n, 255 not known), memory-mapped; None if the case has none."""
        if not self._entries[index]["label"]:
            return None
        return np.asarray(np.load(self._file(index, "label"), mmap_mode="r"))

    def mapped(self, index: int) -> tuple[MappedArray, MappedArray | None]:
        """The same scan and label, mapped only while they are read, for jobs that read many scans over and over."""
        label = MappedArray(self._file(index, "label")) if self._entries[index]["label"] else None
        return MappedArray(self._file(index, "image")), label

    def labeled(self, spacing: Vector) -> list[LabeledScan]:
        """All scans, each of which has a label, mapped only while they are read; `spacing` is the planned one, mm."""
        scans = []
        for index in range(len(self)):
            image, label = self.mapped(index)
            # They do all that is asked of the arrays of a scan.
            scans.append(LabeledScan(cast(Any, image), cast(Any, label), self.annotated(index), spacing))
        return scans

    def annotated(self, index: int) -> tuple[bool, ...]:
        """For each class whether it was drawn in this case: as the class file says, else whether the label holds it."""
        return tuple(self._entries[index]["annotated"])

    def grid(self, index: int) -> Geometry:
        """Where the prepared voxels lie; its spacing (R, A, S) can be a little off the planned one."""
        return Geometry.from_json(self._entries[index]["grid"])

    def source(self, index: int) -> Geometry:
        """The grid of the scan's first channel as it was read."""
        return Geometry.from_json(self._entries[index]["source"])

    def key(self, index: int) -> str:
        """The name of the prepared image: `image_key`."""
        return str(self._entries[index]["image"])

    def label_key(self, index: int) -> str:
        """The same of the prepared label, which the case has."""
        return str(self._entries[index]["label"])

    def _file(self, index: int, kind: str) -> Path:
        return self._folder / f"{self._entries[index][kind]}.{kind}.npy"


@dataclass(frozen=True)
class LabeledScan:
    """One labeled scan as a training reads it.

    Attributes:
        image: [C, I, J, K], any float type; may be memory-mapped.
        label: [I, J, K] uint8, see `labels`.
        annotated: for each class, whether it was drawn in this scan.
        spacing: voxel size in mm, [I, J, K].
    """

    image: np.ndarray
    label: np.ndarray
    annotated: tuple[bool, ...]
    spacing: Vector


class MappedArray(NDArrayOperatorsMixin):
    """A read-only array in a file that is opened for each reading. An array that stays mapped keeps in the RAM of this
    process whatever was read from it, and that grows with the number of scans.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        opened = self._open()
        self.shape, self.dtype, self.ndim, self.size = opened.shape, opened.dtype, opened.ndim, opened.size

    def __getitem__(self, key: Any) -> np.ndarray:
        return np.asarray(self._open()[key])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self._open(), dtype=dtype) if copy else np.asarray(self._open(), dtype=dtype)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        plain = (np.asarray(entry) if isinstance(entry, MappedArray) else entry for entry in inputs)
        return getattr(ufunc, method)(*plain, **options)

    def _open(self) -> np.ndarray:
        return np.asarray(np.load(self._path, mmap_mode="r"))


def _prepare(
    folder: Path, case: Case, preparation: Preparation, classes: ClassTable | None, events: Events
) -> dict[str, Any]:
    """Prepare what is not there yet, and describe it. Of a scan whose label was changed, the label alone is redone."""
    key = image_key(case, preparation)
    image = _finished(folder, key, "image") or _prepare_image(folder, key, case, preparation, events)
    entry = {"name": case.name, "image": key, "label": None, "annotated": []} | image
    if case.label is not None and classes is not None:
        key = state_key([key, *label_state(case, classes)])
        label = _finished(folder, key, "label") or _prepare_label(folder, key, case, image, classes, events)
        entry |= {"label": key} | label
    return entry


def _prepare_image(folder: Path, key: str, case: Case, preparation: Preparation, events: Events) -> dict[str, Any]:
    images = case_images(case, events)
    try:
        image, grid = prepare_image(images, preparation, case.missing)
    except ScanError as error:
        raise ScanError(f"case {case.name}: {error}") from error
    source = Geometry.of(images[0])
    size = len(images) * source.voxels
    del images
    if not np.isfinite(image).all():
        raise ScanError(f"case {case.name}: {case.images[0]} has values too large to work with; rescale them.")
    _save(folder / f"{key}.image.npy", stored(image))
    # Voxels are those of the scan as it was read.
    found = {"grid": grid.to_json(), "source": source.to_json(), "channels": len(image), "voxels": size}
    write_json(folder / f"{key}.image.json", found)
    return found


def _prepare_label(
    folder: Path, key: str, case: Case, image: dict[str, Any], classes: ClassTable, events: Events
) -> dict[str, Any]:
    label = case_label(case, Geometry.from_json(image["source"]), classes, events)
    voxels = sitk.GetArrayViewFromImage(label)
    held = {int(n) for slab in voxels for n in np.unique(slab)} - {0, IGNORE}
    if case.annotated is not None:
        held = {number for name in case.annotated if (number := classes.find(name)) is not None}
    _save(folder / f"{key}.label.npy", prepare_label(label, Geometry.from_json(image["grid"])))
    found = {"annotated": [number in held for number in range(1, len(classes) + 1)]}
    write_json(folder / f"{key}.label.json", found)
    return found


def stored(image: np.ndarray) -> np.ndarray:
    """A prepared scan in the precision that is kept: float16, without overflow."""
    return np.clip(image, -6e4, 6e4).astype(np.float16)


def _finished(folder: Path, key: str, kind: str) -> dict[str, Any] | None:
    try:
        entry: dict[str, Any] = json.loads((folder / f"{key}.{kind}.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return entry if (folder / f"{key}.{kind}.npy").is_file() else None


def image_key(case: Case, preparation: Preparation) -> str:
    """Changes with all that the prepared images of a case depend on, the files' size and time of change included.

    Raises:
        ScanError: a file of the case is gone.
    """
    return state_key([_RECIPE, preparation.to_json(), *image_state(case)])


def _save(path: Path, array: np.ndarray) -> None:
    with whole_file(path) as temporary, temporary.open("wb") as file:
        np.save(file, array)
