"""Cross-validation keeps to its share of the run, scoring included."""

import pytest

from glmae.segmentation.validation_plan import ValidationPlan, plan_seconds, plan_steps

DRAWN = [(True,)] * 5


@pytest.mark.parametrize("steps", [10, 300, 5000, 60_000])
def test_steps_of_all_folds_are_at_most_the_share(steps):
    plan = plan_steps(DRAWN, 0.2, steps, seed=0)
    assert len(plan.folds) * (plan.steps or 0) <= 0.2 * steps + 1
    assert bool(plan.folds) == (steps > 10)


@pytest.mark.parametrize("seconds", [60, 180, 600, 7200])
@pytest.mark.parametrize("step", [0.05, 1.0])
@pytest.mark.parametrize("scan", [0.2, 5.0, 60.0])
def test_seconds_of_all_folds_are_at_most_the_share_and_scoring_has_room(seconds, step, scan):
    plan = plan_seconds(DRAWN, 0.2, seconds, step, scan, seed=0)
    if not plan.folds:
        assert plan.seconds is None
        return
    assert plan.seconds is not None
    assert len(plan.folds) * plan.seconds <= 0.2 * seconds + 1e-6
    assert plan.scoring_seconds <= 0.5 * plan.seconds
    assert all(fold.held_out for fold in plan.folds)
    assert (len(plan.folds[0].held_out) + 1) * scan <= plan.scoring_seconds + 1e-6


def test_a_long_run_has_folds_and_a_short_one_says_why_not():
    assert plan_seconds(DRAWN, 0.2, 600, 0.1, 1.0, seed=0).folds
    short = plan_seconds(DRAWN, 0.2, 60, 5.0, 1.0, seed=0)
    assert not short.folds
    assert "1 minutes are too few" in short.without


def test_three_minutes_of_slow_steps_go_to_the_model_alone():
    """200 steps: of the folds' 40 nothing could be said."""
    assert not plan_seconds(DRAWN, 0.2, 180, 0.9, 1.0, seed=0).folds
    assert plan_seconds(DRAWN, 0.2, 180, 0.3, 1.0, seed=0).folds


def test_a_single_fold_is_planned_with_what_a_single_fold_scores():
    """Ten minutes of slow steps: with the scoring of all five scans no fold would have steps enough."""
    plan = plan_seconds(DRAWN, 0.25, 600, 1.7, 10.0, seed=0)
    assert [len(fold.held_out) for fold in plan.folds] == [2]
    assert plan.seconds is not None
    assert (plan.seconds - plan.scoring_seconds) / 1.7 > 60


def test_it_can_be_switched_off_and_one_scan_is_said_plainly():
    assert not plan_steps(DRAWN, 0, 10_000, 0).folds
    assert "validation is 0" in plan_steps(DRAWN, 0, 10_000, 0).without
    assert "one labelled scan" in plan_steps([(True,)], 0.2, 10_000, 0).without


def test_it_is_kept_for_resuming(tmp_path):
    assert ValidationPlan.read(tmp_path / "validation.json") is None
    for plan in (plan_seconds(DRAWN, 0.2, 600, 0.1, 1.0, 0), plan_steps(DRAWN, 0.2, 10, 0)):
        plan.write(tmp_path / "validation.json")
        assert ValidationPlan.read(tmp_path / "validation.json") == plan
