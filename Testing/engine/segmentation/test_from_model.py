"""Training goes on with an earlier model: with what its network has learned, and a head fitted to all labels."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from coarse_scans import write_coarse_scans

from glmae.cli import main
from glmae.errors import RequestError
from glmae.scans.normalization import Normalization
from glmae.scans.preparation import Preparation
from glmae.segmentation.finetuning import finetune
from glmae.segmentation.model import Model, load_model

SMALL = {"start_steps": 5, "start_crops": 1, "crop": (24, 32, 24)}


def opened(folder: Path) -> Model:
    return load_model(folder, torch.device("cpu"))


def learned(model: Model) -> dict[str, torch.Tensor]:
    """All weights but those that are fitted anew."""
    named = model.network.state_dict().items()
    return {name: entry for name, entry in named if name.startswith(("backbone.", "head.trunk."))}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("two scans")
    write_coarse_scans(folder, ["hippocampus_039", "hippocampus_207"])
    return {"images": folder / "images", "labels": folder / "labels"}


@pytest.fixture(scope="module")
def earlier(folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of one scan, prepared as no plan would, after a step that moves every weight."""
    own = Preparation((2.5, 2.5, 2.5), (Normalization("zscore"),))
    out = tmp_path_factory.mktemp("earlier") / "model"
    settings = SMALL | {"fits": 2.0}
    finetune(**folders, out=out, cases=["hippocampus_039"], steps=1, settings=settings, seed=5, preparation=own)
    return out


def test_it_goes_on_with_what_was_learned(folders, earlier, tmp_path):
    brief = {name: value for name, value in SMALL.items() if name != "crop"}  # which is the earlier model's
    finetune(**folders, out=tmp_path / "on", start=earlier, steps=0, settings=brief)
    finetune(**folders, out=tmp_path / "anew", cases=["hippocampus_039"], steps=0, settings=SMALL)
    before, on, anew = opened(earlier), opened(tmp_path / "on"), opened(tmp_path / "anew")
    assert learned(before).keys() == learned(on).keys()
    assert all(torch.equal(entry, learned(on)[name]) for name, entry in learned(before).items())
    assert not all(torch.equal(entry, learned(on)[name]) for name, entry in learned(anew).items())
    assert not torch.equal(before.network.head.output.weight, on.network.head.output.weight)  # fitted to two scans
    assert (on.config.crop, on.preparation) == (before.config.crop, before.preparation)
    content = json.loads((tmp_path / "on" / "model.json").read_text(encoding="utf-8"))
    assert len(content["training_cases"]) == 2
    assert content["from"] is not None
    assert content["pretrained"] == "tiny", "whose license holds on"


def test_its_classes_must_be_drawn(folders, earlier, tmp_path):
    labels = tmp_path / "labels"
    shutil.copytree(folders["labels"], labels)
    other = {"classes": [{"value": 1, "name": "hippocampus anterior"}, {"value": 2, "name": "amygdala"}]}
    (labels / "classes.json").write_text(json.dumps(other), encoding="utf-8")
    with pytest.raises(RequestError, match="hippocampus posterior"):
        finetune(images=folders["images"], labels=labels, out=tmp_path / "out", start=earlier, steps=0)
    assert not (tmp_path / "out").exists()


def test_another_backbone_cannot_be_asked_for(folders, earlier, tmp_path, capsys):
    paths = [f"--{name}={path}" for name, path in folders.items()]
    begun = ["finetune", *paths, "--out", str(tmp_path / "out"), "--from", str(earlier)]
    assert main([*begun, "--backbone", "tiny"]) == 2
    assert "not allowed with" in capsys.readouterr().err
    assert main([*begun[:-1], str(tmp_path / "nothing"), "--steps", "0"]) == 2
    assert "nothing" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
