"""Model folders from strangers: whatever they hold, the answer is a model or one sentence, soon, and nothing is run."""

from __future__ import annotations

import copy
import json
import os
import pickle
import random
import shutil
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import SimpleITK as sitk
import torch

from glmae.backbone.presets import BackboneConfig
from glmae.backbone.weights import load_backbone, read_weights, write_weights
from glmae.errors import ModelError, RequestError
from glmae.model_folder import CARD, WEIGHTS, read_model, write_model
from glmae.run_folder import RunFolder
from glmae.scans.classes import ClassTable, SegmentClass
from glmae.scans.normalization import Normalization
from glmae.scans.preparation import Preparation
from glmae.segmentation.finetune_config import FinetuneConfig
from glmae.segmentation.model import Model, load_model, save_model
from glmae.segmentation.network import SegmentationNetwork

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole model with a network small enough to be built many times."""
    backbone = BackboneConfig(
        name="tiny", channels=1, patch_size=(8, 8, 8), width=24, depth=3, heads=2, grid=(2, 2, 2), global_view=16,
        local_view=16, decoder_width=24, decoder_depth=1, decoder_heads=2,
    )  # fmt: skip
    classes = ClassTable((SegmentClass(1, "anterior", (0.9, 0.5, 0.2)), SegmentClass(2, "posterior")))
    model = Model(
        SegmentationNetwork(backbone, 2).eval(),
        FinetuneConfig(crop=(16, 16, 16)),
        Preparation((1.0, 1.0, 1.0), (Normalization("zscore"),)),
        classes,
    )
    folder = tmp_path_factory.mktemp("honest")
    save_model(folder, model, {"seed": 0, "schedule": {"steps": 2}})
    return folder


@pytest.fixture
def folder(honest: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(honest, tmp_path / "von Fremden 陌生人"))


def refused(read: Callable[[], Any], reason: str | None = None) -> None:
    with pytest.raises(ModelError, match=reason) as caught:
        read()
    assert len(str(caught.value).splitlines()) == 1


def mutated(value: Any, chance: random.Random) -> Any:
    """Another value in place of this one, or the same with something strange deep inside."""
    if isinstance(value, dict) and value and chance.random() < 0.8:
        key = chance.choice(sorted(value))
        value = dict(value)
        if chance.random() < 0.15:
            del value[key]
        else:
            value[key] = mutated(value[key], chance)
        return value
    if isinstance(value, list) and value and chance.random() < 0.6:
        index = chance.randrange(len(value))
        return [*value[:index], mutated(value[index], chance), *value[index + 1 :]]
    return chance.choice(
        [None, True, 0, -1, 1, 7, 2**20, 2**31, 2**70, 10**400, 1.5, -0.0, 1e308, float("nan"), float("inf"), "", "x",
         "../../../etc/passwd", "\u0000", "a\nb", [], {}, [[]], {"__class__": "os.system"}, [1] * 4, [0, 0, 0],
         [10**9] * 3, "base", "ct"]
    )  # fmt: skip


def test_a_model_of_another_version_is_to_be_trained_again(folder: Path) -> None:
    """One whose layers are others is not called damaged."""
    weights = read_weights(folder / WEIGHTS)
    write_weights(folder / WEIGHTS, {name: tensor for name, tensor in weights.items() if "trunk" not in name})
    refused(lambda: load_model(folder, CPU), "another version of GLMAE made it, train the model again")


def test_honest(folder: Path) -> None:
    assert load_model(folder, CPU).classes.names == ("anterior", "posterior")


def test_mutated_cards(folder: Path) -> None:
    """200 cards, each with some strange values; the same ones in every run."""
    card = json.loads((folder / CARD).read_text(encoding="utf-8"))
    chance = random.Random(20230614)
    parts = ["backbone", "finetuning", "preprocessing", "classes", "format", "kind"]
    refusals: list[str] = []
    for _ in range(200):
        strange = copy.deepcopy(card)
        for _ in range(chance.choice((1, 1, 1, 3))):
            part = chance.choice(parts)
            strange[part] = mutated(strange.get(part), chance)
        (folder / CARD).write_text(json.dumps(strange), encoding="utf-8")
        began = time.process_time()
        try:
            load_model(folder, CPU)
        except ModelError as error:
            refusals.append(str(error))
        assert time.process_time() - began < 20
    assert len(refusals) > 90
    assert [text for text in refusals if len(text.splitlines()) != 1] == []


def test_mutated_weights(folder: Path) -> None:
    """Bytes changed, cut, repeated, in the header above all."""
    path = folder / WEIGHTS
    whole = path.read_bytes()
    header = 8 + int.from_bytes(whole[:8], "little")
    chance = random.Random(8913)
    refusals: list[str] = []
    for _ in range(120):
        strange = bytearray(whole)
        for _ in range(chance.choice((1, 2, 20))):
            place = chance.randrange(header) if chance.random() < 0.9 else chance.randrange(len(whole))
            kind = chance.random()
            if kind < 0.6:
                strange[place % len(strange)] = chance.randrange(256)
            elif kind < 0.8:
                del strange[place:]
            else:
                strange[place:place] = bytes(chance.randrange(256) for _ in range(4))
            if not strange:
                break
        path.write_bytes(bytes(strange))
        try:
            load_model(folder, CPU)
        except ModelError as error:
            refusals.append(str(error))
    assert len(refusals) > 90
    assert [text for text in refusals if len(text.splitlines()) != 1] == []


@pytest.mark.parametrize(
    "text",
    [
        "[" * 200_000,
        '{"format": ' + "[" * 200_000,
        '{"a":' * 100_000,
        '{"format": 1, "kind": "segmentation", "classes": ' + "9" * 10_000 + "}",
        "",
        "null",
        '"text"',
        "\ufeff{}",
    ],
    ids=["nested", "nested value", "nested objects", "long number", "empty", "null", "text", "byte order mark"],
)
def test_malformed_json(folder: Path, text: str) -> None:
    (folder / CARD).write_text(text, encoding="utf-8")
    refused(lambda: read_model(folder))


def test_a_huge_card_is_not_read(folder: Path) -> None:
    with open(folder / CARD, "ab") as file:
        file.truncate(5_000_000_000)  # sparse: takes no space, and would not fit into memory twice
    refused(lambda: read_model(folder), "damaged")


def test_a_thousand_classes_are_refused_at_once(folder: Path) -> None:
    card = json.loads((folder / CARD).read_text(encoding="utf-8"))
    card["classes"] = [{"value": 1 + n % 65535, "name": f"class {n}"} for n in range(100_000)]
    (folder / CARD).write_text(json.dumps(card), encoding="utf-8")
    began = time.process_time()
    refused(lambda: read_model(folder), "more than 254 classes")
    assert time.process_time() - began < 10


@pytest.mark.parametrize("length", [2**63, 2**40, 200_000_000, 0])
def test_oversized_headers(folder: Path, length: int) -> None:
    with open(folder / WEIGHTS, "wb") as file:
        file.write(struct.pack("<Q", length) + b'{"a": 1}')
        file.truncate(3_000_000_000)
    refused(lambda: read_model(folder), "damaged or incomplete")


def test_deeply_nested_weights_header(folder: Path) -> None:
    header = b'{"a":' * 50_000
    (folder / WEIGHTS).write_bytes(struct.pack("<Q", len(header)) + header)
    refused(lambda: read_model(folder), "damaged or incomplete")


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("was-run",)


@pytest.mark.parametrize("kind", ["pickle", "torch"])
def test_pickles_are_refused_and_not_run(folder: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    if kind == "pickle":
        (folder / WEIGHTS).write_bytes(pickle.dumps(Evil()))
    else:
        torch.save({"model": Evil()}, folder / WEIGHTS)
    refused(lambda: load_model(folder, CPU), "damaged")
    refused(lambda: read_weights(folder / WEIGHTS), "damaged")
    assert not (folder / "was-run").exists()
    pickle.loads(pickle.dumps(Evil()))  # it would have shown
    assert (folder / "was-run").exists()


def link(source: Path, target: Path) -> None:
    try:
        source.symlink_to(target)
    except OSError:  # Windows without the right to make links
        pytest.skip("this computer makes no symbolic links")


@pytest.mark.parametrize("name", [CARD, WEIGHTS])
def test_links_are_refused(folder: Path, tmp_path: Path, name: str) -> None:
    private = tmp_path / "private"
    shutil.move(folder / name, private)
    link(folder / name, private)
    refused(lambda: read_model(folder), "is a link or no file")


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such devices")
@pytest.mark.parametrize("name", [CARD, WEIGHTS])
def test_devices_and_pipes_are_refused(folder: Path, name: str) -> None:
    (folder / name).unlink()
    (folder / name).symlink_to("/dev/zero")
    refused(lambda: read_model(folder), "is a link or no file")
    (folder / name).unlink()
    os.mkfifo(folder / name)
    refused(lambda: read_model(folder), "is a link or no file")


@pytest.mark.parametrize("place", ["unfinished", "unfinished/scans", "unfinished/checkpoint.safetensors"])
def test_a_run_of_a_stranger_cannot_lead_files_elsewhere(tmp_path: Path, place: str) -> None:
    treasure = tmp_path / "treasure"
    treasure.mkdir()
    (treasure / "thesis.txt").write_text("mine", encoding="utf-8")
    run = tmp_path / "run"
    (run / place).parent.mkdir(parents=True)
    link(run / place, treasure)
    with pytest.raises(RequestError, match="links"):
        RunFolder(run, {}, resume=True)
    assert [path.name for path in treasure.iterdir()] == ["thesis.txt"]


def test_a_backbone_larger_than_its_weights_is_refused_before_it_is_built(honest: Path, tmp_path: Path) -> None:
    card = json.loads((honest / CARD).read_text(encoding="utf-8"))
    for change in ({"width": 2**16}, {"depth": 2**19}, {"grid": [1000] * 3}, {"heads": 0}, {"mlp_ratio": 1e9}):
        strange = tmp_path / f"backbone {next(iter(change))}"
        write_weights(strange / WEIGHTS, {"a": torch.zeros(9)})
        write_model(strange, "backbone", {"backbone": card["backbone"] | change})
        began = time.process_time()
        refused(lambda folder=strange: load_backbone(folder), "describes no backbone")  # type: ignore[misc]
        assert time.process_time() - began < 5


def test_names_of_classes_stay_names(folder: Path, sample_scans: Path, tmp_path: Path) -> None:
    """They go into headers, never into paths, and cannot add lines to a header."""
    from glmae.segmentation.batch import segment

    card = json.loads((folder / CARD).read_text(encoding="utf-8"))
    card["classes"] = [
        {"value": 1, "name": "../../../evil\nspace: wrong", "terminology": "a~b\nSegment9_Name:=evil"},
        {"value": 2, "name": "C:\\evil\\.."},
    ]
    (folder / CARD).write_text(json.dumps(card), encoding="utf-8")
    before = sorted(tmp_path.rglob("*"))
    scan = sample_scans / "images" / "hippocampus_003.nii.gz"
    assert segment(model=folder, images=[scan], out=tmp_path / "out", device="cpu") == []
    made = set(tmp_path.rglob("*")) - set(before)
    assert {path.relative_to(tmp_path).parts[0] for path in made} == {"out"}
    beside_report = {path.name for path in (tmp_path / "out").iterdir()}
    assert beside_report == {"report", "hippocampus_003.seg.nrrd"}
    result = sitk.ReadImage(str(tmp_path / "out" / "hippocampus_003.seg.nrrd"))
    assert not result.HasMetaDataKey("Segment9_Name")
    assert result.GetSize() == sitk.ReadImage(str(scan)).GetSize()
