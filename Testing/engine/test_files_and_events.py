"""Files that appear whole or not at all; events as lines that any reader understands."""

import errno
import io
import json

import pytest

from glmae.errors import StorageError
from glmae.events import json_lines
from glmae.files import storage_error, whole_file, write_json


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
