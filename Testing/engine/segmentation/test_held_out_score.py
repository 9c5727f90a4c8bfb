"""The expected Dice: from held-out scans, corrected with care, with an interval that is wide where scans are few."""

import pytest

from glmae.scans.classes import ClassTable, SegmentClass
from glmae.segmentation.cross_validation import FoldResult
from glmae.segmentation.evaluation import Score
from glmae.segmentation.folds import Fold
from glmae.segmentation.held_out_score import held_out_score, summary, withheld

CLASSES = ClassTable((SegmentClass(1, "head"), SegmentClass(2, "tail")))


def rows(case: int, *dice: float | None) -> list[Score]:
    return [Score(str(case), name, value, 1.5, 0.0) for name, value in zip(CLASSES.names, dice, strict=False)]


def result(training: tuple[int, ...], held_out: dict[int, tuple], seen: dict[int, tuple], part: float = 1.0):
    fold = Fold(training, tuple(held_out), part)
    scores = [[row for case, dice in group.items() for row in rows(case, *dice)] for group in (held_out, seen)]
    return FoldResult(fold, 50, tuple(scores[0]), tuple(scores[1]), 3.0)


def score(results, seen=(), scans=4):
    return held_out_score(results, seen, CLASSES, scans=scans, steps=400, without="too short")


def folds(dice=0.6, training=0.7):
    return [
        result((2, 3), {0: (dice, dice), 1: (dice, dice)}, {2: (training, training)}),
        result((0, 1), {2: (dice, dice), 3: (dice, dice)}, {1: (training, training)}),
    ]


def test_without_progress_it_is_the_held_out_dice():
    found = score(folds(), [*rows(2, 0.7, 0.7), *rows(1, 0.65, 0.65)])
    assert found["mean_dice"] == found["held_out_mean_dice"] == pytest.approx(0.6)
    assert [row["alias"] for row in found["cases"][::2]] == ["case-01", "case-02", "case-03", "case-04"]


def test_progress_is_credited_in_part_and_never_beyond_the_training_scans():
    found = score(folds(), [*rows(2, 0.8, 0.8), *rows(1, 0.8, 0.8)])
    assert 0.6 < found["mean_dice"] < 0.6 + 0.125, "of 0.1 and 0.15 on the same scans, a part"
    assert found["held_out_mean_dice"] == pytest.approx(0.6)
    assert score(folds(0.6, 0.1), rows(2, 0.65, 0.65))["mean_dice"] <= 0.65 + 1e-6


def test_progress_compares_the_same_scans_only():
    """The model is tried on an easy scan that no fold was tried on: that tells nothing about its progress."""
    found = score(folds(), [*rows(2, 0.7, 0.7), *rows(0, 0.99, 0.99)])
    assert found["mean_dice"] == pytest.approx(0.6)


def of_two_folds(head, tail):
    """Held-out and training Dice of each class, the same in both folds."""
    return [
        result((2, 3), {0: (head[0], tail[0]), 1: (head[0], tail[0])}, {2: (head[1], tail[1])}),
        result((0, 1), {2: (head[0], tail[0]), 3: (head[0], tail[0])}, {1: (head[1], tail[1])}),
    ]


def test_a_class_that_was_found_in_training_scans_only_is_not_expected_elsewhere():
    found = score(of_two_folds((0.6, 0.65), (0.0, 0.85)), [*rows(2, 0.9, 0.9), *rows(1, 0.9, 0.9)])
    assert found["classes"]["tail"]["dice"] < 0.05
    assert found["classes"]["head"]["dice"] == pytest.approx(0.6 + 0.85 * 0.25, abs=1e-3)


def test_a_class_that_the_folds_were_too_short_for_is_expected_with_little_certainty():
    """It was found in no scan at all, and the finished model knows it: neither 0 nor sure."""
    found = score(of_two_folds((0.6, 0.65), (0.0, 0.0)), [*rows(2, 0.9, 0.8), *rows(1, 0.9, 0.8)])
    tail = found["classes"]["tail"]
    assert 0.5 < tail["dice"] < 0.8
    assert tail["interval"][1] - tail["interval"][0] > 0.6


def test_the_mean_of_the_table_is_the_mean_that_is_said():
    found = score(of_two_folds((0.5, 0.6), (0.05, 0.1)), [*rows(2, 0.9, 0.7), *rows(1, 0.9, 0.7)])
    each = [entry["dice"] for entry in found["classes"].values()]
    assert found["mean_dice"] == pytest.approx(sum(each) / 2, abs=1e-3)
    assert found["learning_curve"]["credited"] == pytest.approx(found["mean_dice"] - 0.275, abs=1e-3)


def test_the_mean_is_over_cases_of_the_mean_over_their_classes():
    results = [result((1,), {0: (0.9, 0.5)}, {}), result((0,), {1: (0.4, None)}, {})]
    assert score(results, scans=2)["held_out_mean_dice"] == pytest.approx((0.7 + 0.4) / 2)


def test_the_interval_is_wide_where_scans_are_few_or_differ():
    def width(values):
        results = [result((0,), {n: (value, value)}, {}) for n, value in enumerate(values)]
        low, high = score(results)["interval"]
        assert 0 <= low <= high <= 1
        return high - low

    assert width([0.8, 0.8]) > 1.5 * width([0.8] * 6)
    assert width([0.5, 0.8, 0.95, 0.75]) > 2 * width([0.75] * 4)
    assert width([0.8]) > 0.1, "agreement of one scan with itself is no certainty"
    assert width([0.5]) > 1.5 * width([0.8]), "where more is lacking, scans differ more"


def test_a_corrected_score_is_less_certain():
    plain = score(folds())["interval"]
    corrected = score(folds(), [*rows(2, 0.9, 0.9), *rows(1, 0.9, 0.9)])["interval"]
    assert corrected[1] - corrected[0] > plain[1] - plain[0]


def test_a_learning_curve_says_what_more_labels_would_bring():
    whole = folds(dice=0.8)
    steep = [*whole, result((2,), {0: (0.6, 0.6), 1: (0.6, 0.6)}, {}, part=0.5)]
    found = score(steep)
    assert [point["scans"] for point in found["learning_curve"]["points"]] == [1, 2]
    assert found["learning_curve"]["with_twice_the_scans"] > 0.83
    assert "With 8 labelled scans" in summary(found, 4)
    flat = [*whole, result((2,), {0: (0.8, 0.8), 1: (0.8, 0.8)}, {}, part=0.5)]
    assert "change little" in score(flat)["more_labels"]


def test_without_a_curve_the_training_scans_say_whether_labels_or_time_are_missing():
    assert "more labelled scans would probably help" in score(folds(), rows(2, 0.9, 0.9))["more_labels"]
    assert "longer run" in score(folds(), rows(2, 0.61, 0.61))["more_labels"]
    assert "longer run" in score(folds(0.2, 0.3), rows(2, 0.4, 0.4))["more_labels"]


def test_nothing_is_expected_where_the_folds_were_hardly_trained():
    close = score(folds(0.6, 0.75), [*rows(2, 0.9, 0.9), *rows(1, 0.9, 0.9)])
    assert withheld(close) == close
    assert withheld(score(folds(0.6, 0.7), [*rows(2, 0.9, 0.9), *rows(1, 0.9, 0.9)]))["mean_dice"] is None
    far = score(folds(0.3, 0.4), [*rows(2, 0.9, 0.9), *rows(1, 0.9, 0.9)])
    found = withheld(far)
    assert (found["mean_dice"], found["interval"]) == (None, None)
    assert found["classes"] == {name: {"dice": None, "interval": None} for name in CLASSES.names}
    assert found["held_out_mean_dice"] == pytest.approx(0.3)
    assert found["cases"] == far["cases"]
    assert "50 steps" in summary(found, 4)
    assert "not known; train longer" in summary(found, 4)
    without = score([], rows(0, 0.9, 0.9), scans=1)
    assert withheld(without) == without


def test_without_folds_everything_is_null_and_the_reason_is_there():
    found = score([], rows(0, 0.9, 0.9), scans=1)
    assert (found["mean_dice"], found["interval"], found["cases"], found["more_labels"]) == (None, None, [], None)
    assert summary(found, 1) == found["note"] == "too short"


def test_the_summary():
    text = summary(score(folds(), rows(2, 0.9, 0.9)), 4)
    assert text.startswith("Expect Dice 0.")
    assert "from 4 scans." in text
