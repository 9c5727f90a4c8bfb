"""The maps of scans, kept so that they are computed once: in memory up to a limit, the others in files."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Generator, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open

from ..backbone.weights import write_weights
from ..devices import precision
from ..errors import StorageError
from ..scans.normalization import Normalization, air
from .network import ScanMaps, SegmentationNetwork, Size
from .scan_maps import maps_by_window

ENDING = ".maps.safetensors"


class MapStore:
    """Maps by the name of what they are made of.

    Args:
        folder: of the files; made if needed.
        memory_bytes: what the maps in memory may take together; those used least lately become files.
        disk_bytes: what the files may take together; those used least lately are removed, and it is no error if a file
            cannot be written. None: all are needed.
    """

    def __init__(self, folder: Path, memory_bytes: int = 0, disk_bytes: int | None = None) -> None:
        self._folder, self._most, self._most_files = folder, memory_bytes, disk_bytes
        self._held: OrderedDict[str, ScanMaps] = OrderedDict()

    def __contains__(self, name: str) -> bool:
        return name in self._held or self._file(name).is_file()

    @property
    def nbytes(self) -> int:
        """Memory that the maps take now."""
        return sum(maps.nbytes for maps in self._held.values())

    def find(self, name: str) -> ScanMaps | None:
        """The maps; None if they are not there, or their file is damaged."""
        if name in self._held:
            self._held.move_to_end(name)
            return self._held[name]
        maps = _read(self._file(name))
        if maps is not None:
            with suppress(OSError):  # only the order of removal depends on it
                self._file(name).touch()
            self._hold(name, maps)
        return maps

    def keep(self, name: str, maps: ScanMaps) -> None:
        """Keep maps.

        Raises:
            StorageError: there is no room in memory, and the file cannot be written.
        """
        self._file(name).unlink(missing_ok=True)  # a damaged one would stay
        self._hold(name, maps)

    def write(self) -> None:
        """Let all maps become files."""
        self._shrink(0)

    def _hold(self, name: str, maps: ScanMaps) -> None:
        self._held[name] = maps
        self._shrink(self._most)

    def _shrink(self, most: int) -> None:
        while self._held and self.nbytes > most:
            last, oldest = self._held.popitem(last=False)
            if self._file(last).is_file():
                continue
            try:
                _write(self._file(last), oldest)
            except StorageError:
                if self._most_files is None:
                    raise
            if self._most_files is not None:
                with suppress(OSError):  # another process may remove files, too
                    self._remove_files(self._most_files)

    def _remove_files(self, most: int) -> None:
        files = sorted(self._folder.glob(f"*{ENDING}"), key=lambda file: file.stat().st_mtime_ns, reverse=True)
        total = 0
        for file in files:
            total += file.stat().st_size
            if total > most:
                file.unlink(missing_ok=True)

    def _file(self, name: str) -> Path:
        return self._folder / f"{name}{ENDING}"


class MapMaker:
    """Makes the maps of prepared scans, each once."""

    def __init__(
        self, crop: Size, normalization: Sequence[Normalization], store: MapStore, device: torch.device
    ) -> None:
        self._crop, self._store, self._device = crop, store, device
        self._air = [air(entry) for entry in normalization]
        self._digest = ""

    def find(self, network: SegmentationNetwork, key: str) -> ScanMaps | None:
        """The maps of a scan, if they are there.

        Args:
            network: all have the same backbone and trunk.
            key: of the prepared scan, `ScanStore.key`.
        """
        return self._store.find(self._name(network, key))

    def has(self, network: SegmentationNetwork, key: str) -> bool:
        """Whether they are there."""
        return self._name(network, key) in self._store

    def make(
        self, network: SegmentationNetwork, key: str, image: np.ndarray
    ) -> Generator[tuple[int, int], None, ScanMaps]:
        """Make and keep them, in the steps of `maps_by_window`.

        Args:
            image: the prepared scan, [C, I, J, K].
        """
        maps = yield from maps_by_window(network, image, self._crop, self._device, air=self._air)
        self._store.keep(self._name(network, key), maps)
        return maps

    def _name(self, network: SegmentationNetwork, key: str) -> str:
        self._digest = self._digest or maps_digest(network, self._crop, self._device)
        return f"{key}.{self._digest}"


def maps_digest(network: SegmentationNetwork, crop: Size, device: torch.device) -> str:
    """Changes with all that the maps of a prepared scan depend on beside it."""
    made_by = crop, device.type, str(precision(device)), torch.__version__
    found = hashlib.sha256(repr(made_by).encode())
    for name, entry in (*network.backbone.state_dict().items(), *network.head.trunk.state_dict().items()):
        found.update(name.encode() + entry.detach().cpu().float().numpy().tobytes())
    return found.hexdigest()[:16]


def _write(path: Path, maps: ScanMaps) -> None:
    tensors = {f"level{number}": level for number, level in enumerate(maps.levels)}
    where = torch.tensor([*maps.strides, maps.token, maps.before, maps.shape], dtype=torch.int32)
    write_weights(path, tensors | {"where": where})


def _read(path: Path) -> ScanMaps | None:
    try:
        with safe_open(str(path), framework="pt") as file:
            *strides, token, before, shape = [tuple(row) for row in file.get_tensor("where").tolist()]
            levels = tuple(file.get_tensor(f"level{number}") for number in range(len(strides)))
    except (OSError, SafetensorError, ValueError):
        return None
    return ScanMaps(levels, tuple(strides), token, before, shape)
