"""The models that were trained or imported on this computer: a folder with one model folder a name."""

from __future__ import annotations

import re
import shutil
import uuid
import zipfile
import zlib
from pathlib import Path

from glmae.errors import ModelError, RequestError
from glmae.files import storage_error, whole_file
from glmae.model_folder import CARD, WEIGHTS, ModelCard, read_model

from ..messages import say

# An exported model is a zip file of this ending.
ENDING = ".glmae.zip"
_LARGEST_CARD = 20_000_000
_LARGEST_WEIGHTS = 8_000_000_000
_FORBIDDEN = re.compile(r'[<>:"/\\|?*\x00-\x1f]')
_RESERVED = {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(1, 10))}


class ModelLibrary:
    """Models by name, in `folder`, which is made when the first model is added."""

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the models, as a person would sort them. Only whether they look complete is checked here."""
        if not self.folder.is_dir():
            return ()
        found = [path.name for path in self.folder.iterdir() if (path / CARD).is_file() and path.name[0] != "."]
        return tuple(sorted(found, key=str.casefold))

    def path(self, name: str) -> Path:
        """The folder of a model."""
        return self.folder / name

    def card(self, name: str) -> ModelCard:
        """The checked card of a model.

        Raises:
            ModelError: the model is missing or damaged.
        """
        return read_model(self.path(name), "segmentation")

    def free_name(self, wanted: str) -> str:
        """`wanted` as it can be the name of a folder on every system, with a number where it is taken."""
        name = _FORBIDDEN.sub(" ", wanted)
        name = " ".join(name.split())[:80].strip(" .") or say("model")
        if name.split(".")[0].casefold() in _RESERVED:
            name = f"{name} model"
        taken = {other.name.casefold() for other in self.folder.iterdir()} if self.folder.is_dir() else set()
        number, free = 1, name
        while free.casefold() in taken:
            number += 1
            free = f"{name} {number}"
        return free

    def add(self, source: Path, wanted: str) -> str:
        """Move the finished model folder `source` into the library; the name that it got.

        Raises:
            ModelError: `source` is no complete model.
            StorageError: it cannot be moved here.
        """
        read_model(source, "segmentation")
        name = self.free_name(wanted)
        temporary = self.folder / f".adding-{uuid.uuid4().hex[:12]}"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            shutil.move(source, temporary)  # across disks this copies, and what is half copied must have no name
            temporary.rename(self.path(name))
        except OSError as error:
            raise storage_error(self.path(name), error) from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        return name

    def rename(self, name: str, wanted: str) -> str:
        """Give a model another name; the name that it got."""
        if not wanted.strip():
            raise RequestError(say("model unnamed"))
        new = self.free_name(wanted)
        try:
            self.path(name).rename(self.path(new))
        except OSError as error:
            raise storage_error(self.path(new), error) from error
        return new

    def delete(self, name: str) -> None:
        """Remove a model for good."""
        if name not in self.names:
            raise RequestError(say("model gone", name=name))
        shutil.rmtree(self.path(name), ignore_errors=True)

    def export_model(self, name: str, file: Path) -> None:
        """Write a model as one file, whole or not at all.

        Raises:
            ModelError: the model is missing or damaged.
            StorageError: the file cannot be written.
        """
        card = self.card(name)
        with whole_file(file) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
            archive.write(card.folder / CARD, f"{name}/{CARD}")
            archive.write(card.weights, f"{name}/{WEIGHTS}")

    def copy(self, name: str, target: Path) -> None:
        """Copy a model into the new folder `target`.

        Raises:
            ModelError: the model is missing or damaged.
            StorageError: there is no room for it.
        """
        card = self.card(name)
        try:
            target.mkdir()
            for file in (card.folder / CARD, card.weights):
                shutil.copyfile(file, target / file.name)
        except OSError as error:
            raise storage_error(target, error) from error

    def import_model(self, file: Path) -> str:
        """Add the model in an exported file: of its content only the card and the weights, by their names; its name.

        Raises:
            ModelError: the file holds no model that can be used.
            StorageError: there is no room for it.
        """
        file = Path(file)
        temporary = self.folder / f".importing-{uuid.uuid4().hex[:12]}"
        try:
            with zipfile.ZipFile(file) as archive:
                members = {name: _member(archive, name, file) for name in (CARD, WEIGHTS)}
                temporary.mkdir(parents=True)
                for name, member in members.items():
                    _extract(archive, member, temporary / name, file)
            return self.add(temporary, _title(file))
        except (zipfile.BadZipFile, zipfile.LargeZipFile, EOFError, RuntimeError, ValueError, zlib.error) as error:
            raise ModelError(say("model damaged", file=file, ending=ENDING)) from error
        except FileNotFoundError as error:
            raise ModelError(say("model absent", file=file)) from error
        except OSError as error:
            raise storage_error(self.folder, error) from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def _member(archive: zipfile.ZipFile, name: str, file: Path) -> zipfile.ZipInfo:
    """The only entry of this file name. Its path in the archive is never used, so that it can lead nowhere."""
    found = [entry for entry in archive.infolist() if entry.filename.replace("\\", "/").split("/")[-1] == name]
    if len(found) != 1 or found[0].compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ModelError(say("model foreign", file=file))
    if found[0].file_size > (_LARGEST_CARD if name == CARD else _LARGEST_WEIGHTS):
        raise ModelError(say("model too large", file=file))
    return found[0]


def _extract(archive: zipfile.ZipFile, member: zipfile.ZipInfo, target: Path, file: Path) -> None:
    left = member.file_size
    with archive.open(member) as source, target.open("wb") as out:
        while data := source.read(1 << 20):
            left -= len(data)
            if left < 0:  # an entry that is larger than it says fills the disk
                raise ModelError(say("model damaged", file=file, ending=ENDING))
            out.write(data)


def _title(file: Path) -> str:
    name = file.name
    for ending in (ENDING, ".zip"):
        if name.casefold().endswith(ending):
            return name[: -len(ending)]
    return file.stem
