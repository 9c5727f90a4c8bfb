"""Models kept by name, and exported and imported as one file."""

from __future__ import annotations

import random
import zipfile
from pathlib import Path

import pytest
from panel_scene import write_model as model

from glmae.errors import ModelError, RequestError, StorageError
from GLMAESegmentationLib.models.library import ENDING, ModelLibrary


@pytest.fixture
def library(tmp_path: Path) -> ModelLibrary:
    return ModelLibrary(tmp_path / "Größe 漢字" / "models")


def test_names_are_free_and_fit_every_system(library: ModelLibrary, tmp_path: Path) -> None:
    assert library.names == ()
    assert library.add(model(tmp_path / "a"), "Leber/Milz: T1?") == "Leber Milz T1"
    assert library.add(model(tmp_path / "b"), "leber milz t1") == "leber milz t1 2"
    assert library.free_name("..") == "Model"
    assert library.free_name("CON") == "CON model"
    assert library.free_name("../../etc") == "etc"
    assert library.names == ("Leber Milz T1", "leber milz t1 2")
    assert not (tmp_path / "a").exists()


def test_an_unfinished_model_is_not_taken(library: ModelLibrary, tmp_path: Path) -> None:
    folder = model(tmp_path / "a")
    (folder / "weights.safetensors").write_bytes(b"half")
    with pytest.raises(ModelError, match="incomplete"):
        library.add(folder, "a")
    assert library.names == ()


def test_rename_and_delete(library: ModelLibrary, tmp_path: Path) -> None:
    library.add(model(tmp_path / "a"), "a")
    assert library.rename("a", "Leber") == "Leber"
    with pytest.raises(RequestError, match="type one"):
        library.rename("Leber", "  ")
    library.delete("Leber")
    assert library.names == ()
    with pytest.raises(RequestError, match="no model"):
        library.delete("../models")


def test_out_and_in_again(library: ModelLibrary, tmp_path: Path) -> None:
    library.add(model(tmp_path / "a"), "Leber")
    file = tmp_path / "geteilt ü" / "Leber.glmae.zip"
    library.export_model("Leber", file)
    other = ModelLibrary(tmp_path / "other computer")
    assert other.import_model(file) == "Leber"
    assert other.import_model(file) == "Leber 2"
    assert other.card("Leber").classes.names == ("liver",)
    for name in ("model.json", "weights.safetensors"):
        assert (other.path("Leber") / name).read_bytes() == (library.path("Leber") / name).read_bytes()


def test_no_entry_leads_out_of_the_folder(library: ModelLibrary, tmp_path: Path) -> None:
    source = model(tmp_path / "a")
    file = tmp_path / "bad.glmae.zip"
    with zipfile.ZipFile(file, "w") as archive:
        for name in ("model.json", "weights.safetensors"):
            archive.write(source / name, f"../../../{name}")
        archive.writestr("/tmp/evil.py", "1")
        archive.writestr("../evil.py", "1")
    assert library.import_model(file) == "bad"
    assert sorted(path.name for path in library.path("bad").iterdir()) == ["model.json", "weights.safetensors"]
    assert not list(tmp_path.rglob("evil.py"))


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_compressed_files_that_are_damaged(library: ModelLibrary, tmp_path: Path, method: int) -> None:
    source, file = model(tmp_path / "a"), tmp_path / "x.glmae.zip"
    with zipfile.ZipFile(file, "w", method) as archive:
        archive.write(source / "model.json", "a/model.json")
        archive.write(source / "weights.safetensors", "a/weights.safetensors")
        start = archive.getinfo("a/weights.safetensors").header_offset + 30 + len("a/weights.safetensors")
    content = bytearray(file.read_bytes())
    content[start : start + 8] = bytes([255] * 8)  # no decompressor takes it for the beginning of a stream
    file.write_bytes(content)
    with pytest.raises(ModelError):
        library.import_model(file)
    assert library.names == ()


@pytest.mark.parametrize("content", ["nothing", "no zip", "no model", "two cards", "truncated", "damaged weights"])
def test_files_that_are_no_models(library: ModelLibrary, tmp_path: Path, content: str) -> None:
    file, source = tmp_path / "x.glmae.zip", model(tmp_path / "a")
    if content == "no zip":
        file.write_text("hello", encoding="utf-8")
    elif content != "nothing":
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("readme.txt", "hello")
            if content != "no model":
                archive.write(source / "model.json", "a/model.json")
                weights = (source / "weights.safetensors").read_bytes()
                archive.writestr("a/weights.safetensors", weights[:-2] if content == "damaged weights" else weights)
            if content == "two cards":
                archive.write(source / "model.json", "b/model.json")
        if content == "truncated":
            file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(ModelError) as failure:
        library.import_model(file)
    assert len(str(failure.value)) > 30
    assert library.names == ()
    assert not library.folder.exists() or not list(library.folder.iterdir())


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "models").write_text("a file", encoding="utf-8")
    with pytest.raises(StorageError):
        ModelLibrary(tmp_path / "models").add(model(tmp_path / "a"), "a")


def test_mutated_files(library: ModelLibrary, tmp_path: Path) -> None:
    """200 exported models with bytes changed, cut or repeated: a model, or one sentence; the same ones in every run."""
    name = library.add(model(tmp_path / "a"), "honest")
    exported = tmp_path / f"strange{ENDING}"
    library.export_model(name, exported)
    whole, chance, refusals = exported.read_bytes(), random.Random(2306), []
    for _ in range(200):
        strange = bytearray(whole)
        for _ in range(chance.choice((1, 2, 20))):
            place, kind = chance.randrange(len(strange)), chance.random()
            if kind < 0.7:
                strange[place] = chance.randrange(256)
            elif kind < 0.85:
                del strange[place:]
            else:
                strange[place:place] = strange[: chance.randrange(1, 99)]
            if not strange:
                break
        exported.write_bytes(bytes(strange))
        try:
            library.delete(library.import_model(exported))
        except ModelError as error:
            refusals.append(str(error))
    assert len(refusals) > 100
    assert [text for text in refusals if len(text.splitlines()) != 1] == []
    assert library.names == ("honest",)
    assert [path.name for path in library.folder.iterdir()] == ["honest"]
    assert {path.name for path in tmp_path.iterdir()} == {exported.name, library.folder.parent.name}
