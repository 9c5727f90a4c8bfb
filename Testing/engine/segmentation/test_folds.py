"""How scans are held out: each once, from a training that never saw it, and no class held out whole if it can be."""

import pytest

from glmae.segmentation.cross_validation import learned_classes, plan_folds

DRAWN = (True, True)


@pytest.mark.parametrize(("scans", "count"), [(2, 2), (3, 2), (3, 3), (7, 3), (12, 5)])
def test_each_scan_is_held_out_once_and_never_trained_on_there(scans, count):
    folds = plan_folds([DRAWN] * scans, count, seed=1)
    assert len(folds) == count
    assert sorted(scan for fold in folds for scan in fold.held_out) == list(range(scans))
    sizes = {len(fold.held_out) for fold in folds}
    assert max(sizes) - min(sizes) <= 1
    for fold in folds:
        assert sorted((*fold.training, *fold.held_out)) == list(range(scans))


def test_the_seed_decides_the_parts():
    assert plan_folds([DRAWN] * 8, 2, seed=3) == plan_folds([DRAWN] * 8, 2, seed=3)
    assert len({plan_folds([DRAWN] * 8, 2, seed) for seed in range(5)}) > 1


@pytest.mark.parametrize("seed", range(10))
def test_a_class_of_two_scans_is_trained_on_in_both_halves(seed):
    annotated = [(True, scan in (0, 3)) for scan in range(8)]
    for fold in plan_folds(annotated, 2, seed):
        assert learned_classes(annotated, fold.training) == [True, True]


def test_a_class_of_one_scan_cannot_be_learned_where_that_is_held_out():
    annotated = [(True, True), (True, False), (True, False)]
    learned = [(fold.held_out, learned_classes(annotated, fold.training)) for fold in plan_folds(annotated, 3, 0)]
    assert sorted(learned) == [((0,), [True, False]), ((1,), [True, True]), ((2,), [True, True])]
