"""Fine-tuning on real scans: reproducible, resumable after a kill, no class lost, minutes kept."""

from __future__ import annotations

import dataclasses
import json
import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from safetensors.torch import load_file

from glmae.backbone.presets import preset
from glmae.backbone.vision_transformer import VisionTransformer
from glmae.backbone.weights import write_weights
from glmae.errors import RequestError, Stopped
from glmae.events import recorded
from glmae.model_folder import read_model, write_model
from glmae.scans import image, labels
from glmae.scans.normalization import Normalization
from glmae.scans.preparation import Preparation
from glmae.segmentation.batch import segment
from glmae.segmentation.finetuning import finetune
from glmae.segmentation.model import load_model

# Small crops, and few, and a short fit of the head keep runs short; what is tested does not depend on them.
SMALL = {"crop": (24, 32, 24), "start_steps": 20, "start_crops": 1}


def arguments(folder: Path, out: Path) -> dict:
    common = {"images": folder / "images", "labels": folder / "labels", "out": out, "backbone": "none"}
    return common | {"device": "cpu", "settings": SMALL}


def same_weights(first: Path, second: Path) -> bool:
    a, b = (load_file(folder / "weights.safetensors") for folder in (first, second))
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_a_seed_gives_the_same_weights_twice_and_another_seed_does_not(few_scans, tmp_path):
    for name, seed in (("first", 3), ("again", 3), ("other", 4)):
        finetune(**arguments(few_scans, tmp_path / name), cases=["hippocampus_003"], steps=2, seed=seed)
    assert same_weights(tmp_path / "first", tmp_path / "again")
    assert not same_weights(tmp_path / "first", tmp_path / "other")


def test_killed_and_resumed_equals_uninterrupted(few_scans, tmp_path):
    """Killed while the scans are prepared, and at any moment after step 6, when the weights are averaged already."""
    steps, settings, chance = 12, {**SMALL, "average": 0.25}, random.Random(4)
    killed = tmp_path / "killed"
    child = [sys.executable, "-c", CHILD, str(few_scans), str(killed), str(steps), json.dumps(settings)]
    for stage, done in (("prepare", 1), ("finetune", 6)):
        with subprocess.Popen(child, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            for line in process.stdout:
                event = json.loads(line)
                if event["event"] == "progress" and event["stage"] == stage and event["done"] >= done:
                    break
            time.sleep(chance.uniform(0, 0.2))
            process.kill()  # SIGKILL: nothing can be saved any more
        for file in killed.rglob("*.safetensors"):
            load_file(file)
        for file in killed.rglob("*.json"):
            json.loads(file.read_text(encoding="utf-8"))
    assert (killed / "unfinished" / "checkpoint.safetensors").exists()
    assert not (killed / "model.json").exists()
    events: list[dict] = []
    common = {"steps": steps, "settings": settings}
    finetune(**arguments(few_scans, killed) | common, resume=True, events=recorded(events))
    resumed_at = [e["done"] for e in events if e["event"] == "progress" and e["stage"] == "finetune"]
    assert 7 <= resumed_at[0] <= steps, "it went on from a checkpoint"
    finetune(**arguments(few_scans, tmp_path / "whole") | common)
    assert same_weights(killed, tmp_path / "whole")


# Before its last step it waits until it is killed.
CHILD = """
import json, sys
from pathlib import Path
from glmae.events import Events, json_lines
from glmae.segmentation import finetuning, training
training.CHECKPOINT_SECONDS = 0.0
folder, out, steps = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
told = json_lines()

def tell(event):
    told.emit(**event)
    if event.get("stage") == "finetune" and event.get("done") == steps - 1:
        sys.stdin.read()

finetuning.finetune(images=folder / "images", labels=folder / "labels", out=out, backbone="none", steps=steps,
                    device="cpu", settings=json.loads(sys.argv[4]), resume=out.exists(), events=Events(tell))
"""


def test_a_finished_run_is_not_trained_again(few_scans, tmp_path):
    once = finetune(**arguments(few_scans, tmp_path / "model"), steps=1)
    out = once.folder
    before = (out / "weights.safetensors").stat().st_mtime_ns
    assert finetune(**arguments(few_scans, out), steps=1, resume=True) == once
    assert (out / "weights.safetensors").stat().st_mtime_ns == before


def test_an_interrupted_run_is_resumed_only_with_the_same_request(few_scans, tmp_path):
    events: list[dict] = []
    with pytest.raises(RequestError, match="nothing was learned yet"):
        finetune(**arguments(few_scans, tmp_path / "model"), steps=5, finish=True)
    assert not (tmp_path / "model").exists()
    with pytest.raises(Stopped):
        finetune(
            **arguments(few_scans, tmp_path / "model"),
            steps=5,
            events=recorded(events),
            should_stop=lambda: bool(events) and events[-1].get("stage") == "finetune",
        )
    with pytest.raises(RequestError, match="--resume"):
        finetune(**arguments(few_scans, tmp_path / "model"), steps=5)
    with pytest.raises(RequestError, match="other settings \\(seed\\)"):
        finetune(**arguments(few_scans, tmp_path / "model"), steps=5, seed=1, resume=True)
    label = next((few_scans / "labels").glob("*003*"))
    untouched = label.read_bytes()
    sitk.WriteImage(sitk.ReadImage(str(label), sitk.sitkInt32), str(label))
    assert label.read_bytes() != untouched
    with pytest.raises(RequestError, match="labeled"):
        finetune(**arguments(few_scans, tmp_path / "model"), steps=5, resume=True)
    label.write_bytes(untouched)
    finetune(**arguments(few_scans, tmp_path / "model"), steps=5, resume=True)


def test_a_stopped_run_is_finished_early_with_what_it_has_learned(few_scans, tmp_path):
    events: list[dict] = []
    words = arguments(few_scans, tmp_path / "model") | {"settings": SMALL | {"keep": 0.0, "settled": 1}}

    def stop() -> bool:
        return bool(events) and (events[-1].get("stage"), events[-1].get("done")) == ("finetune", 3)

    with pytest.raises(Stopped):
        finetune(**words, steps=100, events=recorded(events), should_stop=stop)
    kept = load_file(tmp_path / "model" / "unfinished" / "checkpoint.safetensors")
    events.clear()
    finetune(**words, steps=100, events=recorded(events), finish=True)
    assert not {"finetune", "cross-validation"} & {event.get("stage") for event in events}
    card = json.loads((tmp_path / "model" / "model.json").read_text(encoding="utf-8"))
    assert card["schedule"]["done"] == 3
    written = load_file(tmp_path / "model" / "weights.safetensors")
    learned = {name: tensor for name, tensor in written.items() if not name.startswith("location.")}
    assert learned
    assert all(torch.equal(tensor, kept[f"network.{name}"]) for name, tensor in learned.items())
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == ["model.json", "weights.safetensors"]


@pytest.mark.parametrize("at", ["check", "prepare"])
def test_stopped_before_the_steps(at, few_scans, tmp_path):
    """While scans are looked at and prepared: the next event is the last."""
    events: list[dict] = []

    def stop() -> bool:
        return any(at in (event["event"], event.get("stage")) for event in events)

    with pytest.raises(Stopped, match="--resume"):
        finetune(**arguments(few_scans, tmp_path / "model"), steps=2, events=recorded(events), should_stop=stop)
    assert at in (events[-1]["event"], events[-1].get("stage"))
    finetune(**arguments(few_scans, tmp_path / "model"), steps=2, resume=True)
    assert (tmp_path / "model" / "model.json").exists()


def test_each_image_is_read_once_and_each_label_twice(few_scans, tmp_path, monkeypatch):
    """The label for its classes, from which its numbers follow, and then as the image for all that is wanted of it."""
    read: Counter[Path] = Counter()
    original = image.load

    def counted(path, *rest):
        read[path] += 1
        return original(path, *rest)

    monkeypatch.setattr(image, "load", counted)
    monkeypatch.setattr(labels, "load", counted)
    finetune(**arguments(few_scans, tmp_path / "model"), steps=0)
    times = {"images": 1, "labels": 2}
    assert read == {path: times[path.parent.name] for path in few_scans.glob("*/*.nii.gz")}


def test_one_scan_with_a_tiny_class_loses_no_class(sample_scans, tmp_path):
    """One labeled scan, the second class is a ball of 25 voxels without a border of its own; both must be found."""
    name = "hippocampus_097.nii.gz"
    for kind in ("images", "labels"):
        (tmp_path / kind).mkdir()
    shutil.copy(sample_scans / "images" / name, tmp_path / "images")
    label = sitk.ReadImage(str(sample_scans / "labels" / name))
    voxels = sitk.GetArrayFromImage(label)
    posterior = np.argwhere(voxels == 2)
    middle = posterior[np.abs(posterior - posterior.mean(axis=0)).sum(axis=1).argmin()]
    ball = np.abs(np.moveaxis(np.indices(voxels.shape), 0, -1) - middle).sum(axis=-1) <= 2
    truth = np.where(voxels == 1, 1, np.where(ball, 2, 0)).astype(np.uint8)
    assert (truth == 2).sum() == 25
    image = sitk.GetImageFromArray(truth)
    image.CopyInformation(label)
    sitk.WriteImage(image, str(tmp_path / "labels" / name))

    common = {"images": tmp_path / "images", "labels": tmp_path / "labels", "backbone": "none", "device": "cpu"}
    settings, fine = {"crop": (32, 40, 32), "start_crops": 4}, Preparation((1.0, 1.0, 1.0), (Normalization("zscore"),))
    model = finetune(**common, out=tmp_path / "model", steps=50, settings=settings, preparation=fine).folder
    segment(model=model, images=[tmp_path / "images"], out=tmp_path / "out", file_format="nii.gz", device="cpu")
    found = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "out" / name)))
    overlap = [2 * ((found == c) & (truth == c)).sum() / ((found == c).sum() + (truth == c).sum()) for c in (1, 2)]
    assert overlap[0] > 0.6
    assert overlap[1] > 0.1


def test_minutes_are_kept(few_scans, tmp_path):
    began, computed = time.monotonic(), time.process_time()
    out = finetune(**arguments(few_scans, tmp_path / "model"), minutes=0.15).folder
    seconds, computed = time.monotonic() - began, time.process_time() - computed
    starved = computed < seconds / 4  # other programs take the computer: a single step may outlast the minutes
    assert seconds < 9 + 15 or starved
    card = json.loads((out / "model.json").read_text(encoding="utf-8"))
    assert card["schedule"]["done"] == card["schedule"]["steps"] >= (1 if starved else 2)  # many more in peace


def test_the_model_folder_opens_elsewhere_and_tells_no_names(few_scans, tmp_path):
    out = finetune(**arguments(few_scans, tmp_path / "model"), steps=1).folder
    moved = out.rename(tmp_path / "somewhere else")
    for path in few_scans.rglob("*.nii.gz"):
        path.unlink()
    model = load_model(moved, torch.device("cpu"))
    assert model.classes.names == ("hippocampus anterior", "hippocampus posterior")
    text = (moved / "model.json").read_text(encoding="utf-8")
    assert "hippocampus_039" not in text
    assert str(tmp_path) not in text
    assert sorted(path.name for path in moved.iterdir()) == ["model.json", "weights.safetensors"]


def test_a_backbone_of_no_preset_and_other_channels(few_scans, tmp_path):
    """What is imported or pre-trained elsewhere may have any size; training goes on with exactly that one."""
    config = dataclasses.replace(preset("tiny", channels=2), name="elsewhere", depth=2)
    source = tmp_path / "elsewhere"
    write_weights(source / "weights.safetensors", VisionTransformer(config).state_dict())
    write_model(source, "backbone", {"backbone": config.to_json()})
    finetune(**arguments(few_scans, tmp_path / "model") | {"backbone": str(source)}, steps=1)
    card = read_model(tmp_path / "model").content
    assert (card["backbone"]["depth"], card["backbone"]["channels"]) == (2, 1)
    assert card["pretrained"] == "elsewhere"
