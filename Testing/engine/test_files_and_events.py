"""Files that appear whole or not at all; events as lines that any reader understands."""

import errno
import io
import json
import os

import pytest
import SimpleITK as sitk

from glmae.errors import StorageError
from glmae.events import json_lines
from glmae.files import itk_path, storage_error, whole_file, write_json
from glmae.scans.image import load
from glmae.scans.written_image import write_image


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    path = tmp_path / "new folder" / "scan.v2.nii.gz"

    def fail_half_way() -> None:
        with whole_file(path) as temporary:
            assert temporary.name.endswith(".nii.gz")
            temporary.write_bytes(b"half")
            raise RuntimeError("half-way")

    with pytest.raises(RuntimeError, match="half-way"):
        fail_half_way()
    assert list(path.parent.iterdir()) == []
    with whole_file(path) as temporary:
        temporary.write_bytes(b"first")
    with pytest.raises(RuntimeError, match="half-way"):
        fail_half_way()
    assert path.read_bytes() == b"first"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(
    ("number", "words"), [(errno.ENOSPC, "disk is full"), (errno.EACCES, "permission"), (errno.EIO, "another folder")]
)
def test_refusals_are_sentences_with_a_remedy(number, words, tmp_path):
    message = str(storage_error(tmp_path / "a.json", OSError(number, "system text")))
    assert words in message
    assert str(tmp_path / "a.json") in message


def test_json_is_checked_before_anything_is_replaced(tmp_path):
    write_json(tmp_path / "a.json", {"a": 1})
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", {"a": float("nan")})
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {"a": 1}
    with pytest.raises(StorageError):
        write_json(tmp_path / "a.json" / "b.json", {})


def test_events_are_ascii_lines():
    stream = io.StringIO()
    events = json_lines(stream)
    events.warning("Aufnahme 海馬\nzweite Zeile", case="ü")
    events.progress("segment", 1, 2, 3.5, case="a")
    lines = stream.getvalue().splitlines()
    assert len(lines) == 2
    assert stream.getvalue().isascii()
    assert json.loads(lines[0]) == {"event": "warning", "message": "Aufnahme 海馬\nzweite Zeile", "case": "ü"}
    assert json.loads(lines[1])["seconds_left"] == 3.5


def test_itk_is_given_ascii_where_a_folder_of_the_user_is_not(tmp_path, monkeypatch):
    """As in a job: it starts in its folder below the user's, and files have names of the program's own."""
    folder = tmp_path / "Jörg 漢字" / "job"
    (folder / "cases").mkdir(parents=True)
    scan = folder / "cases" / "case-01.nrrd"
    monkeypatch.chdir(folder)
    assert itk_path(scan) == os.path.join("cases", "case-01.nrrd")
    assert itk_path(tmp_path / "scan.nrrd") == str(tmp_path / "scan.nrrd")  # ASCII as it is
    monkeypatch.chdir(tmp_path)
    assert itk_path(scan) == str(scan)  # no better from here
    monkeypatch.chdir(folder)
    image = sitk.Image(3, 4, 5, sitk.sitkUInt8)
    asked = []
    writer = sitk.WriteImage

    class Reader(sitk.ImageFileReader):
        def SetFileName(self, name: str) -> None:
            asked.append(name)
            super().SetFileName(name)

    monkeypatch.setattr(sitk, "ImageFileReader", Reader)
    monkeypatch.setattr(sitk, "WriteImage", lambda image, name, *rest: asked.append(name) or writer(image, name, *rest))
    write_image(scan, image)
    assert load(scan).GetSize() == (3, 4, 5)
    assert len(asked) == 2
    assert all(name.isascii() for name in asked)
