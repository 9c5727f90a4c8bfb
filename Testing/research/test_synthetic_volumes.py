import json
from functools import partial
from itertools import combinations

import numpy as np
import pytest
from engine.pretraining.sample_scans import small_config
from scipy.ndimage import gaussian_gradient_magnitude

from glmae.pretraining.configuration import LossWeights
from glmae.pretraining.pretrain import pretrain
from research.dense_consistency import DenseConsistency
from research.synthetic_anatomy import LEAST_BODY, Anatomy
from research.synthetic_appearance import render
from research.synthetic_label_map import LEAST_VOXELS, LabelMap, Tissue, smooth_field
from research.synthetic_shapes import Ellipsoid, Segment, Sheet, reach, tree
from research.synthetic_volumes import SyntheticScans

SIDE, COUNT = 48, 12
SCANS = SyntheticScans(COUNT, SIDE, seed=3)


@pytest.fixture(scope="module")
def anatomies():
    return [SCANS.anatomy(index) for index in range(COUNT)]


@pytest.fixture(scope="module")
def pairs():
    return [SCANS.appearances(index) for index in range(COUNT)]


def sizes(anatomy):
    """Voxels of each label that shows."""
    counts = np.bincount(anatomy.labels.ravel())[1:]
    return counts[counts >= LEAST_VOXELS]


def correlation(first, second):
    return float(np.corrcoef(first.ravel(), second.ravel())[0, 1])


def edges(image):
    """Where there are edges, weak ones raised, so that bone against air does not outshine the rest."""
    return np.log1p(gaussian_gradient_magnitude(image[0], 1.0))


def test_a_volume_is_a_function_of_seed_index_and_appearance(pairs):
    again = SyntheticScans(2 * COUNT, SIDE, seed=3)
    for index in (5, 0):  # in another order than before
        np.testing.assert_array_equal(again.image(index), pairs[index][0])
        np.testing.assert_array_equal(again.appearances(index)[1], pairs[index][1])
    other = SyntheticScans(COUNT, SIDE, seed=4)
    assert abs(correlation(other.image(0), pairs[0][0])) < 0.9
    assert not np.array_equal(other.anatomy(0).labels, again.anatomy(0).labels)


def test_volumes_differ_by_index(anatomies, pairs):
    for first, second in combinations(range(COUNT), 2):
        assert not np.array_equal(anatomies[first].labels, anatomies[second].labels)
        assert abs(correlation(pairs[first][0], pairs[second][0])) < 0.9


def test_volumes_are_normalized_over_the_body_as_scans_are(anatomies, pairs):
    for anatomy, pair in zip(anatomies, pairs, strict=True):
        assert anatomy.body.mean() >= LEAST_BODY, "never a volume of air"
        for image in pair:
            assert image.shape == (1, SIDE, SIDE, SIDE)
            assert image.dtype == np.float32
            assert np.isfinite(image).all()
            body = image[0][anatomy.body].astype(float)
            assert body.mean() == pytest.approx(0, abs=1e-3)
            assert body.std() == pytest.approx(1, abs=1e-3)
            assert np.abs(image).max() < 60, "fits float16 with room, as the store keeps scans"


def test_each_volume_holds_structures_of_several_sizes(anatomies):
    found = [sizes(anatomy) for anatomy in anatomies]
    for counts in found:
        assert len(counts) >= 8
        assert counts.max() > 20 * counts.min()
    diameters = np.cbrt(6 * np.concatenate(found) / np.pi) / SIDE  # of balls of the same volume, shares of the side
    assert np.mean(diameters < 0.12) > 0.1, "small ones"
    assert np.mean((diameters > 0.12) & (diameters < 0.3)) > 0.25, "middling ones"
    assert np.mean(diameters > 0.4) > 0.02, "large ones"


def test_bodies_in_air_and_regions_without_air_both_occur(anatomies):
    shares = np.array([anatomy.body.mean() for anatomy in anatomies])
    assert 2 <= np.count_nonzero(shares == 1) <= COUNT - 2
    assert {tissue for anatomy in anatomies for tissue in anatomy.tissues} == set(Tissue)


def test_two_appearances_share_their_edges(pairs):
    """Against chance, which is the edges of another anatomy."""
    same = [correlation(edges(first), edges(second)) for first, second in pairs]
    others = [correlation(edges(pairs[index][0]), edges(pairs[index - 1][1])) for index in range(COUNT)]
    assert np.mean(same) > np.mean(others) + 0.3
    assert np.mean(np.array(same) > np.array(others)) >= 0.9


def test_edges_lie_where_labels_meet(anatomies, pairs):
    for anatomy, pair in zip(anatomies, pairs, strict=True):
        border = np.zeros(anatomy.labels.shape, dtype=bool)
        for axis in range(3):
            border |= np.diff(anatomy.labels.astype(int), axis=axis, append=np.take(anatomy.labels, [-1], axis)) != 0
        for image in pair:
            steepness = gaussian_gradient_magnitude(image[0], 0.7)
            assert steepness[border].mean() > 1.1 * steepness[~border & anatomy.body].mean()


def test_two_appearances_do_not_share_their_intensities(anatomies, pairs):
    """Means of the labels are ordered differently, so that one appearance does not tell the other."""
    agreement = []
    for anatomy, pair in zip(anatomies, pairs, strict=True):
        labels = np.flatnonzero(np.bincount(anatomy.labels.ravel()) >= LEAST_VOXELS)
        labels = labels[labels > 0]
        means = [[float(image[0][anatomy.labels == label].mean()) for label in labels] for image in pair]
        agreement.append(np.corrcoef(means)[0, 1])
        assert np.abs(pair[0] - pair[1]).mean() > 0.05
    assert np.mean(agreement) < 0.85
    assert np.min(agreement) < 0.3, "some contrasts are turned round"


def test_ct_and_mr_both_occur():
    """On a phantom of air, fat, organs and bone: in CT they are ordered by density, in MR bone has little signal."""
    labels = np.zeros((32, 32, 32), dtype=np.uint8)
    tissues = (Tissue.AIR, Tissue.FAT, Tissue.BONE, *4 * [Tissue.SOFT])
    labels[4:28, 4:28, 4:28] = 1
    for label in range(2, 7):
        labels[6:26, 6:26, 4 * label - 2 : 4 * label + 1] = label
    anatomy = Anatomy(labels, tissues, np.zeros((2, 32, 32, 32), dtype=np.float32), (1.0, 1.0, 1.0))
    spreads, brighter_fat = {"ct": [], "mr": []}, 0
    for seed in range(24):
        image = render(anatomy, np.random.default_rng(seed))
        fat, bone, *organs = (float(np.median(image[labels == label])) for label in range(1, 7))
        modality = "ct" if bone > max(*organs, fat) else "mr"
        spreads[modality].append((max(organs) - min(organs)) / np.ptp([fat, bone, *organs]))
        if modality == "ct":
            assert fat < min(organs)
        else:
            brighter_fat += fat > max(organs)
    assert 6 <= len(spreads["ct"]) <= 18
    assert np.median(spreads["ct"]) < 0.4 < np.median(spreads["mr"]), "in CT organs lie close together"
    assert 0 < brighter_fat < len(spreads["mr"])


def test_smooth_fields_are_smooth_and_have_unit_deviation():
    random = np.random.default_rng(0)
    fields = [smooth_field(random, 40, (3, 3, 6)) for _ in range(40)]
    assert np.std(fields) == pytest.approx(1, abs=0.1)
    steps = [np.abs(np.diff(fields, axis=axis)).mean() for axis in (1, 2, 3)]
    assert max(steps) < 0.2
    assert steps[2] > 1.5 * steps[0], "twice the knots, about twice as steep"


def test_depths_are_distances_from_the_surface():
    turn, points = np.eye(3), np.array([[0, 0, 0], [0.1, 0, 0], [0, 0, 0.3]], dtype=np.float32).T
    ball = Ellipsoid(np.zeros(3), np.array([0.2, 0.2, 0.2]), turn)
    np.testing.assert_allclose(ball.depth(points), [0.2, 0.1, -0.1], atol=1e-6)
    segment = Segment(np.array([0, 0, -0.1]), np.array([0, 0, 0.1]), (0.05, 0.05))
    np.testing.assert_allclose(segment.depth(points), [0.05, -0.05, -0.15], atol=1e-6)
    disc = Sheet(np.zeros(3), turn, 0.08, 0.02, np.zeros(2))
    np.testing.assert_allclose(disc.depth(points), [0.01, -0.02, -0.29], atol=1e-6)


def test_pieces_lie_in_their_box():
    random = np.random.default_rng(2)
    pieces = tree(random, np.zeros(3), 0.2, 0.03)
    low, high = reach(pieces)
    points = random.uniform(-1.5, 1.5, (3, 200_000)).astype(np.float32)
    inside = np.max([piece.depth(points) for piece in pieces], axis=0) > 0
    assert inside.any()
    assert (points[:, inside] >= low[:, None]).all()
    assert (points[:, inside] <= high[:, None]).all()


def test_painting_in_boxes_equals_painting_at_once():
    """The boxes that save time leave nothing out, however space is deformed."""
    for seed in range(6):
        random = np.random.default_rng(seed)
        label_map = LabelMap(random, 32, np.array([1.0, 1.0, 2.0]))
        balls = [[Ellipsoid(center, np.full(3, 0.12), np.eye(3))] for center in random.uniform(-0.4, 0.4, (4, 3))]
        for pieces in (*balls, tree(random, np.zeros(3), 0.3, 0.05)):
            label_map.paint(pieces, [(0.0, Tissue.VESSEL)], everywhere=True)
            expected = np.max([piece.depth(label_map.points) for piece in pieces], axis=0) > 0
            assert expected.sum() >= LEAST_VOXELS
            np.testing.assert_array_equal(label_map.labels == len(label_map.tissues) - 1, expected)


def test_a_shape_can_be_kept_to_some_labels():
    label_map = LabelMap(np.random.default_rng(5), 24, np.ones(3))
    label_map.labels[:12] = label_map.new(Tissue.SOFT)
    ball = Ellipsoid(np.zeros(3), np.full(3, 0.3), np.eye(3))
    label_map.paint([ball], [(0.0, Tissue.FLUID), (0.1, Tissue.GAS)])
    assert set(np.unique(label_map.labels[:12])) == {1, 2, 3}
    assert not label_map.labels[12:].any(), "the air stays"


def test_synthetic_scans_can_be_pre_trained_on(tmp_path):
    scans = SyntheticScans(3, 40, seed=1)
    config = small_config(weights=LossWeights(spread=0.1))  # all terms, so that every column is a number
    further = partial(DenseConsistency, side=32, places=64)
    out = pretrain(config, scans, tmp_path / "backbone", steps=2, device="cpu", further=further)
    history = json.loads((out / "history.json").read_text(encoding="utf-8"))
    assert len(history["rows"]) == 2
    assert np.isfinite(history["rows"]).all()


def test_impossible_requests_are_refused():
    for count, side in ((0, 48), (3, 8)):
        with pytest.raises(ValueError, match="synthetic"):
            SyntheticScans(count, side)
    with pytest.raises(IndexError):
        SCANS.image(COUNT)
