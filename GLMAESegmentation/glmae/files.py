"""Files that appear whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from .errors import ScanError, StorageError

# How Python keeps bytes that are no UTF-8.
_UNDECODED = re.compile("[\ud800-\udfff]")


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a temporary path with the same ending beside `path`; rename it to `path` if the block succeeds.

    The temporary file is removed on every way out, and a previous file at `path` is replaced only at the end.

    Raises:
        StorageError: the folder cannot be written or the disk is full.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Not tempfile.mkstemp: its files are for their owner only, and results are to be shared.
        temporary = path.parent / f".writing-{uuid.uuid4().hex[:12]}{_ending(path)}"
        temporary.touch(exist_ok=False)
    except OSError as error:
        raise storage_error(path, error) from error
    try:
        yield temporary
        with open(temporary, "rb+") as written:
            os.fsync(written.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise storage_error(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, content: Any) -> None:
    """Write `content` as indented UTF-8 JSON, whole or not at all."""
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def writing(path: Path, write: Callable[[Path], object]) -> None:
    """Call `write(temporary)` inside `whole_file(path)`; for writers that raise other errors than OSError."""
    with whole_file(path) as temporary:
        try:
            write(temporary)
        except RuntimeError as error:  # SimpleITK and safetensors wrap the system's error in their own
            raise StorageError(
                f"{path} could not be written: {last_line(error)}; free some space or choose another folder."
            ) from error


def storage_error(path: Path, error: OSError) -> StorageError:
    """Put an operating system's refusal to write into one sentence with a remedy."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return StorageError(f"{path} could not be written: the disk is full; free some space or choose another folder.")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return StorageError(f"{path} could not be written: no permission; choose a folder that you may write to.")
    return StorageError(f"{path} could not be written: {error.strerror or error}; choose another folder.")


def may_read(path: Path) -> bool:
    """Whether a file can be opened, or the content of a folder be listed. Asked by trying, which Windows needs."""
    try:
        if path.is_dir():
            with os.scandir(path) as entries:
                next(entries, None)
        else:
            path.open("rb").close()
    except PermissionError:
        return False
    return True


def sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal digits.

    Raises:
        OSError: it cannot be read.
    """
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def itk_path(path: Path) -> str:
    """A path as ITK is to be given it: relative to the current folder where that alone makes it ASCII.

    On Windows ITK opens only what the system's code page can spell (InsightSoftwareConsortium/ITK issue 6739).
    """
    if not str(path).isascii():
        with suppress(ValueError):  # another drive of Windows
            near = os.path.relpath(path)
            if near.isascii():
                return near
    return str(path)


def has_utf8_name(path: Path | str) -> bool:
    """Whether a path is text: names from archives of other systems can hold bytes that are none."""
    return not _UNDECODED.search(str(path))


def shown(path: Path | str) -> str:
    """A path for people, and for libraries that take UTF-8 only: bytes that are no text as `\\xfc`."""
    return _UNDECODED.sub(lambda found: f"\\x{ord(found[0]) & 0xFF:02x}", str(path))


def check_name(path: Path | str) -> None:
    """Refuse a path that the libraries of images cannot be given: some end the process.

    Raises:
        ScanError: it is not UTF-8.
    """
    if not has_utf8_name(path):
        raise ScanError(f"the name of {shown(path)} is not UTF-8; rename it.")


def decoded(text: str) -> str:
    """Text of a header that libraries took for UTF-8: where it is not, it is read as Western European."""
    return text.encode("utf-8", "surrogateescape").decode("cp1252", "replace") if _UNDECODED.search(text) else text


def last_line(error: BaseException) -> str:
    """The last non-empty line of an error's text: libraries put the cause there."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1].rstrip(".") if lines else type(error).__name__


def _ending(path: Path) -> str:
    """All of `.nii.gz` or `.seg.nrrd`, because writers choose the format by it; NAME itself may contain dots."""
    for ending in (".nii.gz", ".seg.nrrd", ".seg.nhdr"):
        if path.name.lower().endswith(ending):
            return ending
    return path.suffix
