"""Two Slicers share one folder of models and jobs; and a computer that slept, whose jobs look abandoned."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest
from panel_scene import follow, load_scan, new_panel

from GLMAESegmentationLib.jobs.folder import all_jobs
from GLMAESegmentationLib.messages import say
from GLMAESegmentationLib.panel import actions as action
from GLMAESegmentationLib.panel.panel import Panel

TITLE = "Anterior, Posterior"


@pytest.fixture
def one(scene: Any, tmp_path: Path, stand_in: Path) -> Panel:
    """The panel of one Slicer, in which a training was paused."""
    for name in ("hippocampus_003", "hippocampus_039"):
        load_scan(name)
    panel = new_panel(scene, tmp_path)
    for _ in range(3):
        panel.tick()
    panel.do(action.START_TRAINING)
    follow(panel, lambda: len(panel.state.loss) > 1)
    panel.do(action.PAUSE)
    follow(panel)
    return panel


def age(panel: Panel, seconds: float) -> None:
    """Nothing has touched the jobs for a while, and the panel looks again."""
    for job in all_jobs(panel.jobs):
        os.utime(job.alive, (time.time() - seconds,) * 2)
    panel.interrupted._looked = float("-inf")


def test_a_job_that_the_other_goes_on_with_is_neither_continued_nor_discarded(
    one: Panel, scene: Any, tmp_path: Path
) -> None:
    other = new_panel(scene, tmp_path)
    assert other.state.interrupted == (TITLE,)
    question = one.question(action.DISCARD)[1]  # the dialog is open
    other.do(action.CONTINUE)
    for click, value in ((action.DISCARD, question), (action.CONTINUE, None)):
        one.interrupted._jobs[:] = list(all_jobs(one.jobs))  # as it looked a moment ago
        one.do(click, value)
        assert one.state.failure is not None
        assert one.state.failure.cause == say("job taken", title=TITLE)
        assert not one.busy
        assert one.state.interrupted == ()
    follow(other, lambda: len(other.state.loss) > 1)
    assert other.state.failure is None
    other.leave()


def test_a_job_that_the_other_has_discarded_is_a_sentence(one: Panel, scene: Any, tmp_path: Path) -> None:
    new_panel(scene, tmp_path).do(action.DISCARD)
    one.do(action.CONTINUE)
    assert one.state.failure is not None
    assert one.state.failure.cause == say("job taken", title=TITLE)
    assert not one.busy


def test_scans_that_the_other_is_writing_stay_though_it_takes_minutes(one: Panel, scene: Any, tmp_path: Path) -> None:
    one.do(action.DISCARD)
    one.do(action.START_TRAINING)  # and then Slicer reads a large study
    one.tick()
    other = new_panel(scene, tmp_path)
    for seconds, jobs in ((120, 1), (3600, 0)):
        age(other, seconds)
        other.refresh()
        assert len(list(one.jobs.iterdir())) == jobs
    one.leave()


@pytest.mark.parametrize("click", [action.SUGGEST, action.CHECK_LABELS])
def test_after_a_sleep_the_own_jobs_stay(one: Panel, click: str) -> None:
    one.do(action.DISCARD)
    load_scan("hippocampus_057", labeled=False)
    one.do(click)
    one.tick()
    age(one, 8 * 3600)
    one.refresh()
    assert len(list(one.jobs.iterdir())) == 1
    one.leave()


@pytest.mark.parametrize("click", [action.START_TRAINING, action.SUGGEST])
def test_a_folder_that_is_gone_is_a_sentence(one: Panel, click: str) -> None:
    one.do(action.DISCARD)
    load_scan("hippocampus_057", labeled=False)
    one.do(click)
    for job in all_jobs(one.jobs):  # as a program that cleans up does it
        job.remove()
    one.tick()
    assert not one.busy
    assert not one.state.suggest.on
    assert one.state.failure is not None
    assert (one.state.failure.key, one.state.failure.cause.split(" could")[0]) == ("StorageError", str(one.jobs))
