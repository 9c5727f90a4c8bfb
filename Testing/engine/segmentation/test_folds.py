"""How scans are held out: each once, from a model that never saw it, and no class held out whole."""

import pytest

from glmae.segmentation.folds import ENOUGH_STEPS, FEWEST_STEPS, FEWEST_TIMED_STEPS, GOOD_STEPS, plan_folds

DRAWN = (True, True)


@pytest.mark.parametrize("scans", [2, 3, 4, 7, 12])
@pytest.mark.parametrize("steps", [4 * GOOD_STEPS, 100 * GOOD_STEPS])
def test_many_steps_hold_out_each_scan_once(scans, steps):
    whole = [fold for fold in plan_folds([DRAWN] * scans, steps, seed=1) if fold.part == 1]
    assert sorted(scan for fold in whole for scan in fold.held_out) == list(range(scans))


@pytest.mark.parametrize("scans", [2, 3, 4, 7, 12])
@pytest.mark.parametrize("steps", [FEWEST_STEPS, ENOUGH_STEPS, 2 * ENOUGH_STEPS, 3 * GOOD_STEPS, 100 * GOOD_STEPS])
def test_no_scan_is_trained_on_where_it_is_held_out_and_none_is_held_out_twice(scans, steps):
    folds = plan_folds([DRAWN] * scans, steps, seed=1)
    whole = [fold for fold in folds if fold.part == 1]
    held_out = [scan for fold in whole for scan in fold.held_out]
    assert len(held_out) == len(set(held_out)) >= 1
    for fold in folds:
        assert fold.training
        assert not set(fold.training) & set(fold.held_out)
    for fold in whole:
        assert sorted((*fold.training, *fold.held_out)) == list(range(scans))


def held_out(scans: int, steps: int) -> list[int]:
    return [len(fold.held_out) for fold in plan_folds([DRAWN] * scans, steps, 0)]


def test_many_steps_leave_one_out_and_few_train_few_models():
    """A model of few steps says little about one of many; and one held-out scan little about others."""
    assert held_out(4, 4 * GOOD_STEPS) == [1, 1, 1, 1]
    assert held_out(4, 2 * ENOUGH_STEPS) == [2, 2]
    assert held_out(4, 2 * ENOUGH_STEPS - 1) == [2]
    assert held_out(8, 2 * ENOUGH_STEPS) == [2, 2]
    assert held_out(8, FEWEST_STEPS) == [2]
    assert held_out(12, FEWEST_STEPS) == [3]
    assert held_out(2, FEWEST_STEPS) == held_out(3, FEWEST_STEPS) == [1]


def test_one_scan_or_too_few_steps_give_none():
    assert plan_folds([DRAWN], 10_000, 0) == ()
    assert plan_folds([DRAWN] * 4, FEWEST_STEPS - 1, 0) == ()


def test_folds_that_cost_the_model_time_must_be_longer():
    assert FEWEST_TIMED_STEPS > FEWEST_STEPS
    assert plan_folds([DRAWN] * 8, FEWEST_TIMED_STEPS - 1, 0, timed=True) == ()
    assert len(plan_folds([DRAWN] * 8, FEWEST_TIMED_STEPS, 0, timed=True)) == 1


def test_steps_that_are_left_over_train_on_half_of_the_scans_with_the_same_ones_held_out():
    folds = plan_folds([DRAWN] * 5, 10 * GOOD_STEPS, 0)
    whole, half = folds[:5], folds[5:]
    assert [fold.held_out for fold in half] == [fold.held_out for fold in whole]
    assert all(set(a.training) < set(b.training) for a, b in zip(half, whole, strict=True))


@pytest.mark.parametrize("seed", range(10))
def test_a_class_of_two_scans_is_not_held_out_whole(seed):
    annotated = [(True, number in (1, 4)) for number in range(6)]
    for fold in plan_folds(annotated, 2 * ENOUGH_STEPS, seed):
        assert any(annotated[scan][1] for scan in fold.training)


def test_a_seed_gives_the_same_folds():
    assert plan_folds([DRAWN] * 6, 500, 3) == plan_folds([DRAWN] * 6, 500, 3)
