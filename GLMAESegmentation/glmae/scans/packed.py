"""The content of packed files, piece by piece, with its checksum verified: the readers of NRRD and MetaImage do not."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path

_GZIP = b"\x1f\x8b"
_BLOCK = 1 << 22


def unpacked(path: Path, start: int = 0, packed: bool | None = None) -> Iterator[bytes]:
    """What a file holds, unpacked; what lies behind the last packed part is none of it.

    Args:
        start: its first byte that counts.
        packed: from there on it is gzip or zlib; None: if it begins as gzip does.

    Raises:
        EOFError: its end is missing.
        zlib.error: it is damaged.
    """
    with path.open("rb") as file:
        file.seek(start)
        rest = file.read(_BLOCK)
        if not (rest[:2] == _GZIP if packed is None else packed):
            while rest:
                yield rest
                rest = file.read(_BLOCK)
            return
        unpacker = zlib.decompressobj(wbits=47)  # by the first bytes: gzip or zlib
        while True:
            block = unpacker.decompress(rest, _BLOCK)
            if block:
                yield block
            if unpacker.eof:
                rest = unpacker.unused_data + file.read(_BLOCK)
                if rest[:2] != _GZIP:
                    return
                unpacker = zlib.decompressobj(wbits=47)
                continue
            rest = unpacker.unconsumed_tail
            if not rest and len(block) < _BLOCK:
                rest = file.read(_BLOCK)
                if not rest:
                    raise EOFError


def size_in(path: Path, start: int, packed: bool) -> int:
    """Bytes that a file holds from `start` on, unpacked; -1 if it is damaged or its end is missing."""
    try:
        return sum(map(len, unpacked(path, start, True))) if packed else path.stat().st_size - start
    except (EOFError, zlib.error):
        return -1


def beginning(path: Path, length: int) -> bytes:
    """The first bytes of a file, unpacked where it begins as gzip does; none where that is damaged."""
    try:
        return next(unpacked(path), b"")[:length]
    except (EOFError, zlib.error):
        return b""
