from __future__ import annotations

import json
import struct
import subprocess
import sys
from pathlib import Path

import pytest

import glmae
from glmae.errors import ModelError
from glmae.model_folder import FORMAT_VERSION, read_model, write_model

CONTENT = {
    "classes": [{"value": 1, "name": "左海馬"}],
    "preprocessing": {"spacing": [1.0, 1.0, 1.0]},
    "backbone": {"name": "tiny"},
    "versions": {"torch": "2.8"},
}


def weights(path: Path, values: int = 6) -> None:
    """A safetensors file as its specification has it: length, JSON header, data."""
    header = json.dumps({"w": {"dtype": "F32", "shape": [values], "data_offsets": [0, 4 * values]}}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(4 * values))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "Modell für 頭"
    folder.mkdir()
    weights(folder / "weights.safetensors")
    write_model(folder, "segmentation", CONTENT)
    return folder


def change(folder: Path, **fields: object) -> None:
    card = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    card.update(fields)
    (folder / "model.json").write_text(json.dumps({k: v for k, v in card.items() if v is not None}), encoding="utf-8")


def refused(folder: Path, reason: str, kind: str | None = None) -> None:
    with pytest.raises(ModelError, match=reason) as caught:
        read_model(folder, kind)
    text = str(caught.value)
    assert str(folder) in text
    assert "\n" not in text
    assert ";" in text


def test_round_trip(model):
    card = read_model(model, "segmentation")
    assert card.kind == "segmentation"
    assert card.classes.names == ("左海馬",)
    assert card.content["backbone"] == {"name": "tiny"}
    assert card.content["format"] == FORMAT_VERSION == 1
    assert card.content["versions"]["glmae"] == glmae.__version__
    assert card.content["versions"]["torch"] == "2.8"
    assert card.weights.is_file()


def test_newer_version(model):
    change(model, format=2)
    refused(model, r"newer version of GLMAE \(format 2\); update GLMAE")


def test_other_kind(model):
    refused(model, "is a segmentation model, not a backbone", "backbone")


def test_missing_parts(model, tmp_path):
    refused(tmp_path / "gone", "does not exist")
    refused(tmp_path, "no model folder")
    (model / "weights.safetensors").unlink()
    refused(model, "missing; copy")


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"format": "1"}, "not the card"),
        ({"format": None}, "not the card"),
        ({"format": True}, "not the card"),
        ({"kind": None}, "kind"),
        ({"classes": None}, "`classes` is missing"),
        ({"classes": [{"value": 1}]}, "damaged"),
        ({"backbone": None}, "`backbone` is missing"),
    ],
)
def test_damaged_card(model, fields, reason):
    change(model, **fields)
    refused(model, reason)


def test_card_that_is_no_json(model):
    path = model / "model.json"
    path.write_bytes(path.read_bytes()[:-20])
    refused(model, "not valid JSON")
    path.write_bytes(b"\xff\xfe\x00")
    refused(model, "not valid JSON")


@pytest.mark.parametrize(
    "damage", [lambda b: b[:-1], lambda b: b[:20], lambda b: b"", lambda b: b + b"x", lambda b: bytes(99)]
)
def test_damaged_weights(model, damage):
    path = model / "weights.safetensors"
    path.write_bytes(damage(path.read_bytes()))
    refused(model, "damaged or incomplete")


def test_real_safetensors_file(model):
    numpy = pytest.importorskip("safetensors.numpy")
    import numpy as np

    numpy.save_file({"a": np.ones((3, 4), np.float32), "b": np.zeros(5, np.int64)}, model / "weights.safetensors")
    assert read_model(model).kind == "segmentation"


def test_needs_no_torch(model):
    code = (
        "import sys; from pathlib import Path; from glmae.model_folder import read_model; import glmae.scans.store\n"
        "read_model(Path(sys.argv[1]))\n"
        "print(sorted({'torch', 'monai', 'safetensors', 'scipy'} & set(sys.modules)))"
    )
    root = str(Path(glmae.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {root!r})\n{code}", str(model)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"
