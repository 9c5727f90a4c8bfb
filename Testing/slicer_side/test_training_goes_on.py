"""Train goes on from the chosen model, where its structures are labeled: with real child processes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from panel_scene import follow, load_scan, new_panel, with_small_crops, write_model

from glmae.files import sha256
from glmae.model_folder import WEIGHTS
from GLMAESegmentationLib.jobs.folder import all_jobs
from GLMAESegmentationLib.messages import say
from GLMAESegmentationLib.panel import actions as action
from GLMAESegmentationLib.panel.panel import Panel

LABELED = ("Anterior", "Posterior")


@pytest.fixture
def panel(scene: Any, tmp_path: Path) -> Panel:
    load_scan("hippocampus_003")
    opened = new_panel(scene, tmp_path, with_small_crops)
    for _ in range(3):
        opened.tick()
    opened.choices.steps, opened.choices.device = 2, "cpu"
    return opened


def choose(panel: Panel, tmp_path: Path, structures: tuple[str, ...] = LABELED[:1], channels: int = 1) -> None:
    panel.library.add(write_model(tmp_path / "model", structures, channels), "Kopf")
    panel.choices.model = "Kopf"
    panel.refresh()


def test_a_paused_training_goes_on_though_its_model_was_deleted(panel: Panel, stand_in: Path, tmp_path: Path) -> None:
    choose(panel, tmp_path)
    panel.do(action.START_TRAINING)
    follow(panel, lambda: len(panel.state.loss) > 1)
    panel.do(action.PAUSE)
    follow(panel)
    (job,) = all_jobs(panel.jobs)
    assert job.record.words[-2:] == ("--device", "cpu")
    assert Path(job.record.words[job.record.words.index("--from") + 1]) == job.start
    panel.do(action.DELETE)
    assert panel.state.models == ()
    panel.do(action.CONTINUE)
    follow(panel, lambda: len(panel.state.loss) > 1)
    assert panel.busy, panel.log
    panel.leave()


@pytest.mark.parametrize(
    ("structures", "channels", "go_on", "start"),
    [(LABELED, 1, True, "Kopf"), (("Anterior", "liver"), 1, True, ""), (LABELED, 2, True, ""), (LABELED, 1, False, "")],
)
def test_only_a_model_whose_structures_are_labeled_is_gone_on_from(
    panel: Panel, stand_in: Path, tmp_path: Path, structures: tuple[str, ...], channels: int, go_on: bool, start: str
) -> None:
    panel.choices.go_on = go_on
    choose(panel, tmp_path, structures, channels)
    assert panel.state.start == start
    panel.do(action.START_TRAINING)
    follow(panel, lambda: len(panel.state.loss) > 1)
    (job,) = all_jobs(panel.jobs)
    assert ("--from" in job.record.words) is bool(start)
    panel.leave()


def test_a_model_that_cannot_be_gone_on_from_is_named(panel: Panel, stand_in: Path, tmp_path: Path) -> None:
    stand_in.write_text("other version", encoding="utf-8")
    choose(panel, tmp_path)
    panel.do(action.START_TRAINING)
    follow(panel)
    assert panel.state.failure is not None
    assert panel.state.failure.key == "ModelError"
    assert panel.state.failure.cause.startswith('"Kopf" ')
    assert panel.state.failure.remedy


def test_a_second_training_goes_on_from_the_model_of_the_first(panel: Panel) -> None:
    assert panel.state.start == ""
    for _ in range(2):
        panel.do(action.START_TRAINING)
        follow(panel, seconds=300)
        assert panel.state.failure is None, panel.log
    first, second = panel.state.models
    assert panel.library.card(first).content["from"] is None
    assert panel.library.card(second).content["from"] == sha256(panel.library.path(first) / WEIGHTS)
    assert (panel.state.model, panel.state.start) == (second, second)
    assert panel.state.advice.startswith(say("origin from", n=1))
