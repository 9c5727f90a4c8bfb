"""Jobs with real child processes: stopped, gone on with, crashed, abandoned by their parent."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from panel_scene import follow, load_scan, new_panel, with_small_crops, write_model

from glmae.errors import StorageError
from GLMAESegmentationLib.engine import command as engine
from GLMAESegmentationLib.jobs.folder import all_jobs
from GLMAESegmentationLib.messages import failure_texts, say
from GLMAESegmentationLib.panel import actions as action
from GLMAESegmentationLib.panel.panel import Panel
from GLMAESegmentationLib.setup import set_up

# What the child process does before it begins, so that memory is short.
SHORT = {
    "before the first step": "from glmae import ram; ram.free_ram = lambda: 100_000_000",
    "in a step": "from glmae.segmentation.training import Training; Training._update = fail",
}


@pytest.fixture
def panel(scene: Any, tmp_path: Path) -> Iterator[Panel]:
    for name in ("hippocampus_003", "hippocampus_039"):
        load_scan(name)
    opened = new_panel(scene, tmp_path)
    for _ in range(3):
        opened.tick()
    opened.choices.steps, opened.choices.device = 5000, "cpu"
    yield opened
    opened.leave()


def test_a_real_training_stops_in_five_seconds_and_goes_on(panel: Panel, scene: Any, tmp_path: Path) -> None:
    panel = new_panel(scene, tmp_path, with_small_crops)
    panel.do(action.START_TRAINING)
    follow(panel, lambda: len(panel.state.loss) > 1, 300)
    began = time.monotonic()
    panel.do(action.PAUSE)
    assert panel.state.stopping
    follow(panel)
    assert time.monotonic() - began < 5
    assert panel.state.failure is None
    assert panel.state.interrupted == ("Anterior, Posterior",)

    again = new_panel(scene, tmp_path, with_small_crops)  # Slicer was started anew
    assert again.state.interrupted == ("Anterior, Posterior",)
    again.do(action.CONTINUE)
    follow(again, lambda: len(again.state.loss) > 1, 300)
    assert again.state.loss[0][0] > 1  # not from the beginning
    again.leave()
    assert new_panel(scene, tmp_path).state.interrupted == ("Anterior, Posterior",)
    panel.do(action.DISCARD)
    assert panel.state.interrupted == ()
    assert not list(panel.jobs.iterdir())


def test_stop_makes_the_model_of_what_was_learned_so_far(panel: Panel, scene: Any, tmp_path: Path) -> None:
    panel = new_panel(scene, tmp_path, with_small_crops)
    panel.choices.steps = 30
    panel.do(action.START_TRAINING)
    follow(panel, lambda: len(panel.state.loss) > 1 and panel.state.progress.stage == "finetune")
    panel.do(action.STOP)
    follow(panel, lambda: panel.state.finishing)
    assert panel.busy, panel.log
    assert action.STOP not in panel.state.enabled
    follow(panel)
    assert panel.state.failure is None, panel.log
    assert panel.state.models == ("Anterior, Posterior",)
    assert panel.library.card("Anterior, Posterior").content["schedule"]["done"] < 30
    assert panel.state.interrupted == ()
    assert not list(panel.jobs.iterdir())


def test_what_was_learned_before_a_pause_can_be_kept(panel: Panel, stand_in: Path) -> None:
    write_model(stand_in.parent / "model")
    panel.do(action.START_TRAINING)
    follow(panel, lambda: len(panel.state.loss) > 1)
    panel.do(action.PAUSE)
    follow(panel)
    assert panel.state.step == "note"
    assert {action.CONTINUE, action.KEEP, action.DISCARD} <= panel.state.enabled
    panel.do(action.KEEP)
    follow(panel)
    assert panel.state.failure is None, panel.log
    assert panel.state.models == ("Anterior, Posterior",)


def test_stop_before_anything_was_learned_says_so(panel: Panel, stand_in: Path) -> None:
    panel.do(action.START_TRAINING)
    follow(panel, lambda: len(panel.state.loss) > 1)
    next(panel.jobs.rglob("checkpoint.safetensors")).unlink()
    panel.do(action.STOP)
    follow(panel)
    assert panel.state.step == "note"
    assert action.CONTINUE in panel.state.enabled
    assert panel.state.models == ()


def test_progress_is_told_and_stopping_is_quick(panel: Panel, stand_in: Path) -> None:
    panel.do(action.START_TRAINING)
    follow(panel, lambda: len(panel.state.loss) > 3)
    assert (panel.state.progress.stage, panel.state.progress.seconds_left) == ("finetune", 60)
    assert "Computing on the CPU." in panel.state.train_details
    assert action.START_TRAINING not in panel.state.enabled
    panel.do(action.PAUSE)
    follow(panel)
    assert panel.state.interrupted


def test_one_that_does_not_listen_is_ended_by_force(panel: Panel, stand_in: Path) -> None:
    stand_in.write_text("deaf", encoding="utf-8")
    panel.do(action.START_TRAINING)
    follow(panel, lambda: len(panel.state.loss) > 1)
    began = time.monotonic()
    panel.do(action.PAUSE)
    follow(panel)
    assert 3 < time.monotonic() - began < 6
    assert panel.state.interrupted


def test_a_long_step_is_broken_off_and_what_was_learned_before_it_is_kept(panel: Panel, stand_in: Path) -> None:
    stand_in.write_text("long step", encoding="utf-8")
    panel.do(action.START_TRAINING)
    follow(panel, lambda: len(panel.state.loss) > 1)
    began = time.monotonic()
    panel.do(action.PAUSE)
    follow(panel)
    assert time.monotonic() - began < 5
    assert {action.CONTINUE, action.KEEP} <= panel.state.enabled


@pytest.mark.parametrize(("behavior", "key"), [("crash", "crashed"), ("gpu", "gpu memory"), ("disk", "disk full")])
def test_failures_have_a_name_a_cause_and_a_remedy(panel: Panel, stand_in: Path, behavior: str, key: str) -> None:
    stand_in.write_text(behavior, encoding="utf-8")
    panel.do(action.START_TRAINING)
    follow(panel)
    assert panel.state.failure is not None
    assert panel.state.failure.key == key
    assert panel.state.failure.remedy
    assert panel.state.failure.sentence in panel.log
    assert action.COPY_LOG in panel.state.enabled
    assert action.START_TRAINING in panel.state.enabled


@pytest.mark.parametrize("moment", SHORT)
def test_memory_that_is_short_ends_the_real_engine_with_a_remedy_of_the_panel(
    panel: Panel, scene: Any, tmp_path: Path, moment: str
) -> None:
    short = new_panel(scene, tmp_path, lambda command: with_small_crops(command, SHORT[moment]))
    short.do(action.START_TRAINING)
    follow(short)
    assert short.state.failure is not None
    assert (short.state.failure.key, short.state.failure.remedy) == ("memory", failure_texts("memory")[2])
    assert "memory" in short.state.failure.cause
    assert "--" not in short.state.failure.sentence
    assert {action.START_TRAINING, action.CONTINUE, action.DISCARD} <= short.state.enabled
    assert [scan.state for scan in short.state.scans] == ["labeled", "labeled"]
    follow_continued(panel)


def follow_continued(panel: Panel) -> None:
    """With memory enough, Continue goes on."""
    panel.interrupted.look((), at_once=True)
    panel.refresh()
    panel.do(action.CONTINUE)
    assert panel.busy
    panel.leave()


def test_memory_that_is_short_for_suggest_leaves_its_process_alive(panel: Panel, scene: Any, tmp_path: Path) -> None:
    load_scan("hippocampus_057", labeled=False)
    code = "from glmae.segmentation import live; live._Session._fit = fail"
    short = new_panel(scene, tmp_path, lambda command: with_small_crops(command, code))
    short.tick()
    short.do(action.SUGGEST)
    wait_for(lambda: short.tick() or short.state.suggest.problem, 120)
    assert short.state.suggest_sentence.endswith(failure_texts("memory")[2])
    assert short.state.suggest.on
    assert not short.state.suggest.stage
    short.leave()


@pytest.mark.parametrize("click", [action.START_TRAINING, action.SUGGEST])
def test_a_ct_of_a_tilted_gantry_is_named_with_what_slicer_can_do(panel: Panel, stand_in: Path, click: str) -> None:
    volume = load_scan("hippocampus_057")
    volume.SetName("Tilted")
    volume.SetIJKToRASDirections(1, 0, 0, 0, 1, 0.3, 0, 0, 1)
    load_scan("hippocampus_097", labeled=False)
    panel.tick()
    panel.do(click)
    wait_for(lambda: panel.tick() or panel.state.failure or panel.state.scans[2].failure)
    said = panel.state.failure.sentence if panel.state.failure else panel.state.scans[2].failure
    assert '"Tilted"' in said
    assert "Resample Image" in said


def test_a_program_that_is_not_there(panel: Panel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(set_up, "slicers_python", lambda: "/no/such/PythonSlicer")
    panel.do(action.START_TRAINING)
    follow(panel)
    assert panel.state.failure is not None
    assert "/no/such/PythonSlicer" in panel.state.failure.sentence


@pytest.mark.parametrize("job", ["finetune", "live"])
def test_the_child_ends_when_its_parent_is_gone(tmp_path: Path, stand_in: Path, job: str) -> None:
    """The parent is killed, as in a crash of Slicer: nobody says stop, the stream just ends."""
    alive = tmp_path / "alive"
    words = {"finetune": ["--out", str(tmp_path / "out")]}
    words["live"] = [word for name in ("images", "labels", "cache") for word in (f"--{name}", str(tmp_path))]
    words["live"] += ["--device", "cpu"]
    command = engine.engine_command([job, *words[job]], tmp_path, alive)
    parent = (
        "import subprocess, sys, time\n"
        f"child = subprocess.Popen({[sys.executable, *command.arguments]!r}, stdin=subprocess.PIPE,"
        " stdout=subprocess.DEVNULL)\n"
        "print(child.pid, flush=True)\ntime.sleep(60)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE, env=dict(command.environment))
    assert process.stdout is not None
    int(process.stdout.readline())
    wait_for(alive.exists)
    process.kill()
    process.wait()
    process.stdout.close()

    def still() -> bool:
        before = alive.stat().st_mtime
        time.sleep(2.5)  # longer than a heartbeat
        return alive.stat().st_mtime == before

    wait_for(still)


def test_a_crash_of_slicer_is_noticed(panel: Panel, stand_in: Path, scene: Any, tmp_path: Path) -> None:
    panel.do(action.START_TRAINING)
    follow(panel, lambda: len(panel.state.loss) > 1)
    (job,) = all_jobs(panel.jobs)
    assert job.record.state == "running"
    assert new_panel(scene, tmp_path).state.interrupted == ()  # another Slicer runs it
    panel.do(action.PAUSE)
    follow(panel)
    content = json.loads((job.folder / "job.json").read_text(encoding="utf-8"))
    (job.folder / "job.json").write_text(json.dumps({**content, "state": "running"}), encoding="utf-8")
    os.utime(job.alive, (time.time() - 60,) * 2)
    assert new_panel(scene, tmp_path).state.interrupted == ("Anterior, Posterior",)


def test_closing_the_scene_while_training(panel: Panel, stand_in: Path, scene: Any) -> None:
    panel.do(action.START_TRAINING)
    follow(panel, lambda: len(panel.state.loss) > 1)
    scene.Clear(0)
    panel.scene_closed()
    assert panel.busy
    assert panel.state.scans == ()
    panel.tick()
    assert panel.state.running == "train"


def test_closing_the_scene_while_its_scans_are_written(panel: Panel, stand_in: Path, scene: Any) -> None:
    panel.do(action.START_TRAINING)
    panel.tick()
    scene.Clear(0)
    panel.scene_closed()
    follow(panel)
    assert panel.state.failure is not None
    assert panel.state.failure.cause == say("gone from training", scan="hippocampus_039")
    assert not list(panel.jobs.iterdir())


def test_a_disk_that_is_full_while_the_job_runs(
    panel: Panel, stand_in: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, scene: Any
) -> None:
    panel.do(action.START_TRAINING)
    follow(panel, lambda: len(panel.state.loss) > 1)

    def full(*_: Any) -> None:
        raise StorageError("job.json could not be written: the disk is full; free some space.")

    with monkeypatch.context() as broken:
        broken.setattr("GLMAESegmentationLib.jobs.folder.write_json", full)
        panel.do(action.PAUSE)
        follow(panel)
    assert panel.state.failure is not None
    assert panel.state.failure.key == "disk full"
    (job,) = all_jobs(panel.jobs)
    os.utime(job.alive, (time.time() - 60,) * 2)
    assert new_panel(scene, tmp_path).state.interrupted == ("Anterior, Posterior",)


def test_quitting_while_scans_are_written_leaves_nothing(panel: Panel, stand_in: Path) -> None:
    panel.do(action.START_TRAINING)
    panel.tick()
    panel.leave()
    assert not list(panel.jobs.iterdir())


def test_stopping_while_scans_are_written_leaves_nothing(panel: Panel, stand_in: Path) -> None:
    panel.do(action.START_TRAINING)
    panel.tick()
    panel.do(action.PAUSE)
    assert not panel.busy
    assert panel.state.interrupted == ()
    assert not list(panel.jobs.iterdir())


def wait_for(condition: Any, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_leftovers_of_removed_jobs_go_and_jobs_stay(scene: Any, tmp_path: Path) -> None:
    """Windows keeps the files that a killed process had open; the folder then has no job.json any more."""
    jobs = tmp_path / "settings ü" / "jobs"
    for name in ("old", "new", "job"):
        (jobs / name / "cases").mkdir(parents=True)
    (jobs / "job" / "job.json").write_text("{}", encoding="utf-8")
    for name in ("old", "job"):
        os.utime(jobs / name, (0, 0))
    new_panel(scene, tmp_path)
    assert sorted(path.name for path in jobs.iterdir()) == ["job", "new"]
