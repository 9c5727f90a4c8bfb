import itertools
import json
import math
import os
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from sample_scans import ScanList, sample_scans, small_backbone, small_config

from glmae.backbone.weights import load_backbone, read_weights
from glmae.checkpoint import load_checkpoint, save_checkpoint
from glmae.errors import GLMAEError, ModelError, RequestError, Stopped
from glmae.events import recorded
from glmae.pretraining import pretrain as job
from glmae.pretraining.configuration import LossWeights, PretrainConfig
from glmae.pretraining.pretrain import pretrain
from glmae.run_folder import RunFolder
from glmae.schedule import Schedule

HERE = Path(__file__).parent
STEPS = 12


def weights(folder):
    return read_weights(folder / "weights.safetensors")


def equal(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_resuming_after_a_kill_gives_the_same_weights_to_the_last_bit(tmp_path):
    killed, whole = tmp_path / "killed run", tmp_path / "whole"
    engine = str(HERE.parents[2] / "GLMAESegmentation")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([engine, str(HERE)])}
    command = [sys.executable, str(HERE / "pretrain_child.py"), str(killed), str(STEPS)]
    with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        for line in process.stdout:
            event = json.loads(line)
            if event["event"] == "progress" and event["done"] >= 5:
                break
        process.kill()  # SIGKILL; on Windows TerminateProcess
    assert not (killed / "model.json").exists()
    checkpoint = killed / "unfinished" / "checkpoint.safetensors"
    assert 4 <= load_checkpoint(checkpoint).state["schedule"]["done"] < STEPS

    for out, resume in ((killed, True), (whole, False)):
        pretrain(small_config(), sample_scans(), out, steps=STEPS, device="cpu", resume=resume)
    assert equal(weights(killed), weights(whole))
    histories = [json.loads((folder / "history.json").read_text(encoding="utf-8")) for folder in (killed, whole)]
    assert histories[0] == histories[1]
    assert [row[0] for row in histories[0]["rows"]] == list(range(1, STEPS + 1))
    assert sorted(entry.name for entry in killed.iterdir()) == ["history.json", "model.json", "weights.safetensors"]


def test_a_seed_decides_the_weights(tmp_path):
    scans = sample_scans()
    folders = [
        pretrain(small_config(seed=seed), scans, tmp_path / name, steps=3, device="cpu")
        for name, seed in (("first", 4), ("again", 4), ("other", 5))
    ]
    first, again, other = (weights(folder) for folder in folders)
    assert equal(first, again)
    assert not equal(first, other)


def test_the_loss_falls_on_a_real_scan(tmp_path):
    """Targets are not normalized here: with them, 30 steps only reach the loss of predicting nothing."""
    backbone = small_backbone(width=96, decoder_width=48)
    config = small_config(backbone=backbone, batch=4, learning_rate=3e-3, normalize_patches=False)
    out = pretrain(config, sample_scans(1), tmp_path / "run", steps=30, device="cpu")
    history = json.loads((out / "history.json").read_text(encoding="utf-8"))
    for term in ("global_reconstruction", "local_reconstruction"):
        losses = [row[history["columns"].index(term)] for row in history["rows"]]
        assert np.mean(losses[-5:]) < 0.85 * np.mean(losses[:3]), term


def test_the_folder_is_a_backbone(tmp_path):
    events = []
    config = small_config()
    out = pretrain(
        config, sample_scans(), tmp_path / "run", steps=3, device="cpu", events=recorded(events), card={"note": "x"}
    )
    backbone = load_backbone(out)
    assert backbone.config == config.backbone
    card = json.loads((out / "model.json").read_text(encoding="utf-8"))
    assert (card["kind"], card["scans"], card["kept"], card["note"]) == ("backbone", 3, "student", "x")
    assert PretrainConfig.from_json(card["pretraining"]) == config
    assert card["schedule"]["steps"] == 3
    names = weights(out)
    assert {"cls_token", "mask_token", "decoder_pred.weight"} <= names.keys()
    assert not [name for name in names if "project" in name or "teacher" in name]
    progress = [event for event in events if event["event"] == "progress"]
    assert (progress[-1]["done"], progress[-1]["total"]) == (3, 3)
    assert math.isfinite(progress[-1]["loss"])


@pytest.mark.parametrize("kept", ["teacher", "student"])
def test_the_kept_encoder_is_the_one_asked_for(tmp_path, kept):
    """With momentum 1 the teacher never moves, so it is still the initial network."""
    config = small_config(output=kept, ema_start=1.0)
    out = pretrain(config, sample_scans(1), tmp_path / "run", steps=2, device="cpu")
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        from glmae.pretraining.gl_mae import GLMAE

        initial = GLMAE(config).student
    same = torch.equal(weights(out)["blocks.0.mlp.fc1.weight"], initial.blocks[0].mlp.fc1.weight)
    assert same == (kept == "teacher")


def test_stopping_keeps_what_can_be_resumed(tmp_path):
    config, scans, out = small_config(), sample_scans(), tmp_path / "run"
    asked = iter([False, False, True])
    with pytest.raises(Stopped, match=r"after step 3.*--resume"):
        pretrain(config, scans, out, steps=6, device="cpu", should_stop=lambda: next(asked))
    with pytest.raises(RequestError, match="--resume"):
        pretrain(config, scans, out, steps=6, device="cpu")
    with pytest.raises(RequestError, match="other settings"):
        pretrain(replace(config, seed=9), scans, out, steps=6, device="cpu", resume=True)
    pretrain(config, scans, out, steps=6, device="cpu", resume=True)
    whole = pretrain(config, scans, tmp_path / "whole", steps=6, device="cpu")
    assert equal(weights(out), weights(whole))
    assert pretrain(config, scans, out, steps=6, device="cpu", resume=True) == out, "finished: nothing to do"


@pytest.fixture
def clock(monkeypatch):
    """The schedule's clock goes on by a tenth of a second with each look at it, however fast the computer is."""
    ticks = itertools.count()
    monkeypatch.setattr(job, "Schedule", partial(Schedule, clock=lambda: next(ticks) / 10))


def test_minutes_end_in_time_with_the_rate_run_down(tmp_path, clock):
    out = pretrain(small_config(), sample_scans(), tmp_path / "run", minutes=0.5, device="cpu")
    history = json.loads((out / "history.json").read_text(encoding="utf-8"))
    schedule = json.loads((out / "model.json").read_text(encoding="utf-8"))["schedule"]
    rates = [row[history["columns"].index("rate")] for row in history["rows"]]
    assert len(rates) == schedule["done"] >= 20
    assert 27 < schedule["seconds_spent"] < 32
    assert rates[-1] < 0.05 * max(rates)


def test_a_resumed_run_in_minutes_keeps_its_number_of_steps(tmp_path, clock):
    """The schedule is stored: the second sitting can shorten it when steps got slower, but never lengthens it."""
    config, scans, out = small_config(), sample_scans(), tmp_path / "run"
    calls = iter([False] * 7)
    with pytest.raises(Stopped):
        pretrain(config, scans, out, minutes=0.5, device="cpu", should_stop=lambda: next(calls, True))
    stored = load_checkpoint(out / "unfinished" / "checkpoint.safetensors").state["schedule"]
    pretrain(config, scans, out, minutes=0.5, device="cpu", resume=True)
    schedule = json.loads((out / "model.json").read_text(encoding="utf-8"))["schedule"]
    assert stored["done"] == 8
    assert stored["done"] < schedule["done"] <= stored["steps"]
    assert schedule["seconds_spent"] < 32


def test_prototypes_stand_still_at_first(tmp_path):
    """With frozen prototypes throughout, nothing but their weight decay could move them, and that is skipped too."""
    config, out = small_config(frozen_prototypes=1.1), tmp_path / "run"
    with pytest.raises(Stopped):
        pretrain(config, sample_scans(1), out, steps=4, device="cpu", should_stop=lambda: True)
    tensors = load_checkpoint(out / "unfinished" / "checkpoint.safetensors").under("model.")
    assert torch.equal(tensors["student_projector.prototypes"], tensors["teacher_projector.prototypes"])
    assert not torch.equal(tensors["student_projector.mlp.0.weight"], tensors["teacher_projector.mlp.0.weight"])


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path):
    broken = sample_scans(1).image(0).copy()
    broken[:] = np.inf
    with pytest.raises(GLMAEError, match=r"broke down at step 1: the loss is nan"):
        pretrain(small_config(batch=1), ScanList([broken]), tmp_path / "run", steps=3, device="cpu")
    assert not (tmp_path / "run").exists(), "nothing is left behind"


def test_scans_that_do_not_fit_are_refused_before_anything_is_made(tmp_path):
    two_channels = ScanList([np.zeros((2, 20, 20, 20), np.float16)])
    for scans, message in ((ScanList([]), "no scans"), (two_channels, r"scan 1 has shape \[2, 20, 20, 20\]")):
        with pytest.raises(RequestError, match=message):
            pretrain(small_config(), scans, tmp_path / "run", steps=1, device="cpu")
    assert not (tmp_path / "run").exists()


def test_a_damaged_checkpoint_is_named(tmp_path):
    config, scans, out = small_config(), sample_scans(1), tmp_path / "run"
    with pytest.raises(Stopped):
        pretrain(config, scans, out, steps=4, device="cpu", should_stop=lambda: True)
    checkpoint = out / "unfinished" / "checkpoint.safetensors"
    checkpoint.write_bytes(checkpoint.read_bytes()[:-7])
    with pytest.raises(ModelError, match=r"checkpoint\.safetensors is damaged"):
        pretrain(config, scans, out, steps=4, device="cpu", resume=True)


def test_plain_mae_trains_without_a_teacher(tmp_path):
    plain = LossWeights(local_reconstruction=0, global_global=0, global_local=0)
    out = pretrain(small_config(weights=plain), sample_scans(1), tmp_path / "run", steps=2, device="cpu")
    card = json.loads((out / "model.json").read_text(encoding="utf-8"))
    history = json.loads((out / "history.json").read_text(encoding="utf-8"))
    assert card["kept"] == "student"
    assert history["rows"][0][history["columns"].index("global_global")] is None


def test_a_run_folder_of_the_caller_is_used_and_ended(tmp_path):
    folder = RunFolder(tmp_path / "run", {"images": "here"}, resume=False)
    folder.begin()
    (folder.unfinished / "scans").mkdir()
    pretrain(small_config(), sample_scans(1), folder, steps=1, device="cpu")
    assert folder.finished
    assert not folder.unfinished.exists()


def test_a_checkpoint_of_other_settings_is_refused(tmp_path):
    folder = RunFolder(tmp_path / "run", {}, resume=False)
    folder.begin()
    save_checkpoint(folder.checkpoint, {}, {"config": small_config(seed=1).to_json()})
    with pytest.raises(RequestError, match="other settings"):
        pretrain(small_config(seed=2), sample_scans(1), folder, steps=1, device="cpu")
