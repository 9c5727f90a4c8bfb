"""What every training starts from: computed once, kept beside the prepared scans, and written by `--steps 0`."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from safetensors.torch import load_file

from glmae.backbone.presets import preset
from glmae.cli import main
from glmae.errors import Stopped
from glmae.events import recorded, silent
from glmae.scans.cases import find_cases
from glmae.scans.measurement import measure
from glmae.scans.normalization import Normalization
from glmae.scans.preparation import Preparation, plan_preparation
from glmae.scans.store import ScanStore
from glmae.schedule import Schedule
from glmae.segmentation import finetuning, map_store
from glmae.segmentation.crop_maps import CropMaps
from glmae.segmentation.finetune_config import FinetuneConfig
from glmae.segmentation.finetuning import finetune
from glmae.segmentation.instant_start import InstantStart
from glmae.segmentation.map_store import MapStore
from glmae.segmentation.model import load_model
from glmae.segmentation.network import SegmentationNetwork
from glmae.segmentation.training import Training

CPU = torch.device("cpu")
FEW = 5  # steps in which the head is fitted: badly, and fast
# Augmented crops have tests of their own.
CONFIG = FinetuneConfig(crop=(40, 56, 40), start_steps=FEW, start_crops=0)
SMALL = {"start_steps": FEW, "start_crops": 1, "crop": (24, 32, 24)}
# Steps that change nothing.
STILL = {"rate": 0.0, "trunk_rate": 0.0, "backbone_rate": 0.0, "weight_decay": 0.0}


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of all batches of windows of which maps were made."""
    seen: list[int] = []
    made = SegmentationNetwork.maps

    def maps(network, x):
        seen.append(len(x))
        return made(network, x)

    monkeypatch.setattr(SegmentationNetwork, "maps", maps)
    return seen


def build(seed: int = 0) -> SegmentationNetwork:
    torch.manual_seed(seed)
    return SegmentationNetwork(preset("tiny"), 2)


Make = Callable[..., InstantStart]


@pytest.fixture
def start(few_scans, tmp_path) -> Make:
    """Makes a new start, as a new process would, on the same prepared scans."""
    names = ["hippocampus_039", "hippocampus_207"]
    cases, table = find_cases(few_scans / "images", few_scans / "labels", names)
    preparation = plan_preparation(measure(cases, table), 128**3)
    store = ScanStore.prepare(tmp_path / "scans", cases, preparation, table)

    def make(config: FinetuneConfig = CONFIG, seed: int = 0) -> InstantStart:
        maps = MapStore(tmp_path / "scans")
        return InstantStart(lambda: build(seed), config, preparation, store, maps, CPU, silent(), CropMaps())

    return make


def kept(folder: Path) -> list[Path]:
    return sorted((folder / "scans").glob("*.maps.safetensors"))


def same(one: SegmentationNetwork, two: SegmentationNetwork) -> bool:
    first, second = one.state_dict(), two.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_the_backbone_sees_each_scan_once(start, passes, tmp_path):
    both = start().begin([0, 1])
    assert both.dice is not None
    assert len(passes) > 0
    assert len(kept(tmp_path)) == 2
    passes.clear()
    first = start()
    assert same(first.begin([0, 1]).network, both.network)
    one = first.begin([1])
    assert not same(one.network, both.network), "another training has a head of its own"
    assert same(first.begin([1]).network, one.network)
    assert passes == []
    assert same(one.network.backbone, build().backbone), "the backbone stays as it was"


def test_the_head_is_fitted_to_augmented_crops_too(start, passes):
    start().begin([0, 1])  # the maps of the scans are known from here on
    plain, config = start().begin([0]).network, replace(CONFIG, start_crops=3)
    passes.clear()
    instant = start(config=config)
    whole = instant.begin([0]).network
    assert len(passes) == 3
    assert not same(whole, plain)
    passes.clear()
    instant.begin([0, 1])
    assert len(passes) == 3, "those of the first scan are known"
    assert same(start(config=config).begin([0]).network, whole)


def test_going_on_does_not_wait_for_another_fit(start, tmp_path, monkeypatch):
    folder = tmp_path / "scans"
    first = start().begin([0], folder=folder)
    other = start().begin([1], folder=folder)
    (file, _) = sorted(folder.glob("*.head.safetensors"), key=lambda file: file.stat().st_mtime_ns)
    with monkeypatch.context() as patch:
        patch.setattr(InstantStart, "fit", lambda *_: pytest.fail("fitted"))
        again = start().begin([0], folder=folder)
        assert (again.dice, again.fits) == (first.dice, first.fits)
        assert same(again.network, first.network)
        assert same(start().begin([1], folder=folder).network, other.network)
    file.write_bytes(file.read_bytes()[:100])
    assert same(start().begin([0], folder=folder).network, first.network), "a damaged one is fitted again"


@pytest.mark.parametrize("left", [0, 100, 0.5, 0.99])
def test_a_damaged_file_is_made_again(left, start, passes, tmp_path):
    whole = start().begin([0]).network
    (file,) = kept(tmp_path)
    content = file.read_bytes()
    file.write_bytes(content[: int(left * len(content)) if isinstance(left, float) else left])
    passes.clear()
    assert same(start().begin([0]).network, whole)
    assert len(passes) > 0
    assert file.read_bytes() == content


def test_maps_of_other_weights_or_windows_are_others(start, passes, tmp_path):
    first = start().begin([0])
    for count, changes in ((2, {"seed": 1}), (3, {"config": replace(CONFIG, crop=(24, 32, 24))})):
        passes.clear()
        start(**changes).begin([0])
        assert len(kept(tmp_path)) == count
        assert len(passes) > 0
    passes.clear()
    other = start(config=replace(CONFIG, seed=4, rate=1.0)).begin([0])
    assert passes == [], "what the maps do not depend on changes nothing"
    assert not same(other.network, first.network), "the fit has the seed of the run"


def test_stopping_while_the_maps_are_made(start, tmp_path):
    def stop() -> None:
        raise Stopped("stopped")

    with pytest.raises(Stopped):
        start().begin([0], stop)
    assert kept(tmp_path) == []


def test_rates_are_gentle_only_where_the_head_fits_its_own_scans(start):
    dice = start().begin([0]).dice
    assert dice is not None
    rates = {}
    for fits in (dice, dice + 1e-6):
        config = replace(CONFIG, fits=fits)
        beginning = start(config=config)
        begun = beginning.begin([0])
        training = Training(begun.network, config, beginning.scans[:1], Schedule(1), CPU, begun.fits)
        rates[fits] = {
            name: group["lr"]
            for group in training.optimizer.param_groups
            for name, parameter in training.network.named_parameters()
            if any(parameter is member for member in group["params"])
        }
    full, gentle = rates[dice + 1e-6], rates[dice]
    for name, rate in full.items():
        expected = 1e-3 if name.startswith("backbone.") else 5e-3
        factor = 0.2 if name.startswith("head.") and not name.startswith("head.trunk.") else 0.1
        assert rate == pytest.approx(expected), name
        assert gentle[name] == pytest.approx(factor * expected), name


def test_a_run_trains_as_gently_as_its_start_allows(few_scans, tmp_path, monkeypatch):
    asked = {}

    class Watched(Training):
        def __init__(self, network, config, scans, schedule, device, gentle=False, memory=None):
            asked.setdefault(config.fits, set()).add(gentle)
            super().__init__(network, config, scans, schedule, device, gentle, memory)

    monkeypatch.setattr(finetuning, "Training", Watched)
    for fits in (0.0, 1.1):
        words = words_of(few_scans, tmp_path / f"{fits}", fits=fits)
        finetune(**words, cases=["hippocampus_003"], steps=1)
    assert asked == {0.0: {True}, 1.1: {False}}


def test_without_it_the_head_is_random(start, passes, few_scans, tmp_path):
    begun = start(config=FinetuneConfig(crop=(40, 56, 40), start_steps=0)).begin([0, 1])
    assert (begun.dice, begun.fits) == (None, False)
    assert same(begun.network, build())
    assert passes == []
    assert kept(tmp_path) == []


def words_of(folder: Path, out: Path, **settings: object) -> dict:
    common = {"images": folder / "images", "labels": folder / "labels", "out": out, "backbone": "none"}
    return common | {"device": "cpu", "settings": SMALL | settings}


def test_a_training_starts_from_exactly_the_model_of_no_steps(few_scans, tmp_path):
    names = ["hippocampus_003", "hippocampus_039"]
    finetune(**words_of(few_scans, tmp_path / "instant"), cases=names, steps=0)
    finetune(**words_of(few_scans, tmp_path / "still", **STILL), cases=names, steps=3)
    finetune(**words_of(few_scans, tmp_path / "moved"), cases=names, steps=3)
    instant, still, moved = (
        load_file(tmp_path / name / "weights.safetensors") for name in ("instant", "still", "moved")
    )
    assert instant.keys() == still.keys()
    assert all(torch.equal(instant[name], still[name]) for name in instant)
    changed = [name for name in instant if not torch.equal(instant[name], moved[name])]
    assert any("voxel_output" in name for name in changed)
    assert load_model(tmp_path / "instant", CPU).network.head.voxel_output.weight.abs().max() == 0


def test_random_weights_follow_from_the_seed(few_scans, tmp_path):
    weights = []
    for seed in (3, 4):
        out = finetune(**words_of(few_scans, tmp_path / f"{seed}", start_steps=0), steps=0, seed=seed).folder
        weights.append(load_file(out / "weights.safetensors")["backbone.blocks.0.mlp.fc1.weight"])
    assert not torch.equal(*weights)


def test_each_scan_is_learned_from_with_its_own_label(tmp_path):
    """Scans of one size, so that nothing but the labels would tell of an exchange."""
    for kind in ("images", "labels"):
        (tmp_path / kind).mkdir()
    noise = np.random.default_rng(0).integers(0, 100, (16, 16, 16), dtype=np.int16)
    for number in range(3):
        label = np.zeros(noise.shape, np.uint8)
        label[5 * number : 5 * number + 5] = 1
        for kind, array in (("images", noise + 100 * label), ("labels", label)):
            sitk.WriteImage(sitk.GetImageFromArray(array), str(tmp_path / kind / f"scan {number}.nrrd"))
    cases, table = find_cases(tmp_path / "images", tmp_path / "labels")
    preparation = Preparation((1.0, 1.0, 1.0), (Normalization("zscore"),))
    store = ScanStore.prepare(tmp_path / "scans", cases, preparation, table)
    for scan in store.labeled(preparation.spacing):
        image, drawn = np.asarray(scan.image)[0], np.asarray(scan.label) == 1
        assert image[drawn].mean() > image[~drawn].mean() + 1


def test_an_interrupted_training_goes_on_from_its_start(few_scans, tmp_path, monkeypatch):
    seen: list[int] = []
    real = map_store.maps_by_window

    def counted(*words, **more):
        seen.append(1)
        return real(*words, **more)

    monkeypatch.setattr(map_store, "maps_by_window", counted)
    words = words_of(few_scans, tmp_path / "stopped") | {"cases": ["hippocampus_003"], "steps": 4}
    events: list[dict] = []
    with pytest.raises(Stopped):
        finetune(
            **words,
            events=recorded(events),
            should_stop=lambda: any(event.get("stage") == "finetune" and event["done"] == 2 for event in events),
        )
    assert len(seen) == 1
    finetune(**words, resume=True)
    assert len(seen) == 1, "the maps are those of the first sitting"
    finetune(**words | {"out": tmp_path / "whole"})
    one, two = (load_file(tmp_path / name / "weights.safetensors") for name in ("stopped", "whole"))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_the_instant_model_by_the_command_line(few_scans, tmp_path, capsys):
    """With the shipped backbone, all defaults, in a process of its own, and on a scan that it has not seen."""
    model, out = tmp_path / "an instant model", tmp_path / "results"
    images, labels = few_scans / "images", few_scans / "labels"
    new = few_scans / "new"
    new.mkdir()
    (labels / "hippocampus_039.nii.gz").rename(new / "hippocampus_039.nii.gz")
    shutil.copy(labels / "classes.json", new)
    words = ["finetune", "--images", images, "--labels", labels, "--out", model, "--steps", 0, "--device", "cpu"]
    command = [sys.executable, "-m", "glmae", *map(str, words), "--events"]
    trained = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=False)
    assert trained.returncode == 0, trained.stderr
    events = [json.loads(line) for line in trained.stdout.splitlines()]
    assert events[-1]["event"] == "finished"
    assert events[-1]["steps"] == 0
    card = json.loads((model / "model.json").read_text(encoding="utf-8"))
    assert card["schedule"]["done"] == 0
    assert not (model / "unfinished").exists()
    scan = images / "hippocampus_039.nii.gz"
    assert glmae("segment", "--model", model, "--images", scan, "--out", out, "--device", "cpu") == 0
    assert glmae("evaluate", "--predictions", out, "--labels", new, "--out", tmp_path / "report.json") == 0
    report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert report["mean_dice"] > 0.6
    capsys.readouterr()
    assert glmae(*words, "--resume") == 0
    assert "finished already" in capsys.readouterr().out


def test_fewer_than_no_steps_are_refused(few_scans, tmp_path):
    words = ["finetune", "--images", few_scans / "images", "--labels", few_scans / "labels"]
    assert glmae(*words, "--out", tmp_path / "model", "--steps", -1) == 2
    assert not (tmp_path / "model").exists()


def glmae(*words: object) -> int:
    return main([*map(str, words)])
