"""The maps of scans, kept so that they are computed once: in memory up to a limit, the others in files."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from ..devices import precision
from ..files import whole_file
from .heads.maps import MapsHead
from .network import SegmentationNetwork
from .scan_maps import ScanMaps, Size


class MapStore:
    """Maps by the name of what they are made of.

    Args:
        folder: of the files; made if needed.
        memory_bytes: what the maps in memory may take together; those used least lately become files.
    """

    def __init__(self, folder: Path, memory_bytes: int = 0) -> None:
        self._folder, self._most = folder, memory_bytes
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
            self._hold(name, maps)
        return maps

    def keep(self, name: str, maps: ScanMaps) -> None:
        """Keep maps.

        Raises:
            StorageError: there is no room in memory, and the file cannot be written.
        """
        self._file(name).unlink(missing_ok=True)  # a damaged one would stay
        self._hold(name, maps)

    def _hold(self, name: str, maps: ScanMaps) -> None:
        self._held[name] = maps
        while self._held and self.nbytes > self._most:
            last, oldest = self._held.popitem(last=False)
            if not self._file(last).is_file():
                _write(self._file(last), oldest)

    def _file(self, name: str) -> Path:
        return self._folder / f"{name}.maps.safetensors"


def maps_digest(network: SegmentationNetwork, crop: Size, device: torch.device) -> str:
    """Changes with all that the maps of a prepared scan depend on beside it."""
    assert isinstance(network.head, MapsHead)
    found = hashlib.sha256(repr((crop, device.type, str(precision(device)))).encode())
    for name, entry in (*network.backbone.state_dict().items(), *network.head.trunk.state_dict().items()):
        found.update(name.encode() + entry.detach().cpu().float().numpy().tobytes())
    return found.hexdigest()[:16]


def _write(path: Path, maps: ScanMaps) -> None:
    tensors = {f"level{number}": level for number, level in enumerate(maps.levels)}
    where = torch.tensor([*maps.strides, maps.token, maps.before, maps.shape], dtype=torch.int32)
    content = save(tensors | {"where": where})
    with whole_file(path) as temporary:
        temporary.write_bytes(content)


def _read(path: Path) -> ScanMaps | None:
    try:
        with safe_open(str(path), framework="pt") as file:
            *strides, token, before, shape = [tuple(row) for row in file.get_tensor("where").tolist()]
            levels = tuple(file.get_tensor(f"level{number}") for number in range(len(strides)))
    except (OSError, SafetensorError, ValueError):
        return None
    return ScanMaps(levels, tuple(strides), token, before, shape)
