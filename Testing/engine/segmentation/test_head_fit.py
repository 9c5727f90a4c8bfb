"""The head that is fitted to a few labeled scans: what it finds, what it must not learn, and that it is repeatable."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from glmae.backbone.presets import preset
from glmae.backbone.weights import WEIGHTS, backbone_folder, fitting_trunk, load_backbone, read_weights
from glmae.scans.cases import find_cases
from glmae.scans.classes import IGNORE
from glmae.scans.measurement import measure
from glmae.scans.preparation import plan_preparation
from glmae.scans.store import ScanStore
from glmae.segmentation import head_fit
from glmae.segmentation.class_slabs import class_slabs
from glmae.segmentation.head_fit import LabeledMaps, fit_head, sample_places
from glmae.segmentation.network import UNITS, Head, ScanMaps, SegmentationNetwork
from glmae.segmentation.scan_maps import scan_maps

CPU = torch.device("cpu")
FEW = 12  # steps, where it does not matter how well the head is fitted
BACKBONE = preset("tiny")
TOKENS = (4, 3, 3)  # of 8 voxels
SHAPE = tuple(8 * count for count in TOKENS)


def head_for(classes: int) -> Head:
    torch.manual_seed(1)
    return Head(1, classes, BACKBONE)


def made_maps(head: Head, values: np.ndarray, seed: int = 0) -> ScanMaps:
    """Maps of noise, but for the fine map's first channel, which shows `values` [I, J, K]."""
    generator = torch.Generator().manual_seed(seed)
    levels, strides = [], []
    for stride, widths in zip((2, 4, 8), head.widths, strict=True):
        size = [side // stride for side in SHAPE]
        levels.append(torch.randn((sum(widths), *size), generator=generator))
        strides.append((stride,) * 3)
    levels[0][0] = F.avg_pool3d(torch.from_numpy(values.astype(np.float32))[None], 2)[0] * 4
    return ScanMaps(tuple(level.half() for level in levels), tuple(strides), (8, 8, 8), (0, 0, 0), SHAPE)


def probabilities(head: Head, maps: ScanMaps) -> np.ndarray:
    """[n+1, I, J, K]."""
    with torch.inference_mode():
        logits = head.logits([level[None].float() for level in maps.levels])[0]
    return logits[0].softmax(dim=0).numpy()


def blocks(*boxes: tuple[int, tuple[slice, slice, slice]]) -> np.ndarray:
    label = np.zeros(SHAPE, dtype=np.uint8)
    for number, box in boxes:
        label[box] = number
    return label


def weights(head: Head) -> dict[str, torch.Tensor]:
    return {name: entry for name, entry in head.state_dict().items() if not name.startswith("trunk.")}


def same(one: Head, two: Head) -> bool:
    first, second = weights(one), weights(two)
    return all(torch.equal(first[name], second[name]) for name in first)


LEFT, RIGHT = np.s_[4:12, 4:20, 4:20], np.s_[20:28, 4:20, 4:20]


@pytest.fixture(scope="module")
def real(sample_scans, tmp_path_factory) -> tuple[SegmentationNetwork, list[LabeledMaps]]:
    """The shipped backbone, and two scans as it sees them."""
    names = ["hippocampus_039", "hippocampus_207"]
    cases, table = find_cases(sample_scans / "images", sample_scans / "labels", names)
    preparation = plan_preparation(measure(cases, table), 128**3)
    store = ScanStore.prepare(tmp_path_factory.mktemp("scans"), cases, preparation, table)
    folder = backbone_folder("tiny")
    pretrained = load_backbone(folder, channels=1)
    network = SegmentationNetwork(pretrained.config, len(table))
    network.backbone.load_state_dict(pretrained.state_dict())
    trunk = network.head.trunk
    trunk.load_state_dict(trunk.state_dict() | fitting_trunk(read_weights(folder / WEIGHTS), trunk))
    scans = []
    for index in range(2):
        label = store.label(index)
        assert label is not None
        maps = scan_maps(network, store.image(index), (40, 56, 40), CPU)
        scans.append(LabeledMaps(maps, np.asarray(label), store.annotated(index)))
    return network, scans


def dice(network: SegmentationNetwork, scan: LabeledMaps) -> list[float]:
    found = np.concatenate([slab.winners()[0] for slab in class_slabs(network, scan.maps, CPU)], axis=-1)
    pairs = [(found == number, scan.label == number) for number in (1, 2)]
    return [2 * (a & b).sum() / (a.sum() + b.sum()) for a, b in pairs]


def test_one_real_scan_is_enough_to_find_both_classes_in_another(real):
    network, (first, second) = real
    trunk = copy.deepcopy(network.head.trunk.state_dict())
    fit_head(network.head, [first], 0, 400)
    assert min(dice(network, first)) > 0.75
    assert min(dice(network, second)) > 0.45
    assert all(torch.equal(trunk[name], entry) for name, entry in network.head.trunk.state_dict().items())


@pytest.fixture
def threads() -> Iterator[None]:
    """The number of threads of the tests is as it was."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_a_seed_gives_the_same_weights_with_any_number_of_threads(real, threads):
    network, scans = real
    heads = [copy.deepcopy(network.head) for _ in range(4)]
    for head, seed, count in zip(heads, (5, 5, 5, 6), (1, 1, 3, 1), strict=True):
        torch.set_num_threads(count)
        torch.manual_seed(count)  # of other randomness it knows nothing
        fit_head(head, scans, seed, FEW)
        assert torch.get_num_threads() == count
    assert same(heads[0], heads[1])
    assert same(heads[0], heads[2])
    assert not same(heads[0], heads[3])


def test_what_was_not_drawn_in_a_scan_may_be_there():
    """Class 2 was drawn in one of two scans: in the other it is not learned as background, unless that is said."""
    shown, drawn = blocks((1, LEFT), (2, RIGHT)), blocks((1, LEFT))

    def showing(head: Head, seed: int) -> ScanMaps:
        """Both classes are there to be seen, in many channels each."""
        maps = made_maps(head, shown, seed)
        for number in (1, 2):
            place = F.avg_pool3d(torch.from_numpy((shown == number).astype(np.float32))[None], 2)
            maps.levels[0][14 * number : 14 * number + 14] += 3 * place.half()
        return maps

    found = {}
    for annotated in (False, True):
        head = head_for(2)
        whole = LabeledMaps(showing(head, 0), shown, (True, True))
        # So many that what is said there would count.
        partly = [LabeledMaps(showing(head, number), drawn, (True, annotated)) for number in range(1, 7)]
        fit_head(head, [whole, *partly], 0, 80)
        found[annotated] = probabilities(head, partly[0].maps)
    assert found[False][2][RIGHT].mean() > 0.8
    assert found[True][2][RIGHT].mean() < 0.7
    assert (found[False].argmax(axis=0)[LEFT] == 1).mean() > 0.8, "what was drawn is found in both"
    assert found[False][1][RIGHT].mean() < 0.1, "and only there"


def test_voxels_of_which_nothing_is_known_have_no_say():
    shown = blocks((1, LEFT))
    heads = []
    for value, other in ((IGNORE, 0.0), (IGNORE, 9.0), (0, 0.0), (0, 9.0)):
        head = head_for(1)
        maps = made_maps(head, shown)
        maps.levels[0][:, 10:14] += other  # the places of the planes 20 to 27
        label = shown.copy()
        label[20:28] = value
        fit_head(head, [LabeledMaps(maps, label, (True,))], 0, FEW)
        heads.append(head)
    assert same(heads[0], heads[1])
    assert not same(heads[2], heads[3])


def test_a_place_is_shared_by_its_known_voxels():
    head = head_for(2)
    label = np.full(SHAPE, IGNORE, dtype=np.uint8)
    label[0, 0, :2], label[1, 0, 0], label[1, 1, 1] = 1, 2, 0  # four known voxels of the first place's eight
    places = sample_places(
        head, [LabeledMaps(made_maps(head, label * 0), label, (True, False))], np.random.default_rng(0)
    )
    torch.testing.assert_close(places.shares, torch.tensor([[0.25, 0.5, 0.25]]))
    assert places.hidden.tolist() == [[False, True]]
    nothing = LabeledMaps(made_maps(head, label * 0), np.full(SHAPE, IGNORE, dtype=np.uint8), (True, True))
    with pytest.raises(ValueError, match="no voxel"):
        fit_head(head, [nothing], 0, 400)


def test_classes_have_equal_shares_of_the_places(monkeypatch):
    monkeypatch.setattr(head_fit, "CLASS_PLACES", 240)
    monkeypatch.setattr(head_fit, "OTHER_PLACES", 100)
    head = head_for(3)
    label = blocks((1, np.s_[:16]), (2, np.s_[20:28, :10, :20]), (3, np.s_[20:24, 20:22, :4]))
    scan = LabeledMaps(made_maps(head, label), label, (True,) * 3)
    for scans in ([scan], [scan, scan]):
        places = sample_places(head, scans, np.random.default_rng(0))
        others, *counts = torch.bincount(places.shares.argmax(dim=1), minlength=4).tolist()
        # A class gets a third of 240, over all scans; the smallest has four places only.
        assert counts == [80, 80, 4 * len(scans)]
        assert 80 < others <= 100, "some are drawn twice"
    drawn = [sample_places(head, [scan], np.random.default_rng(seed)).features for seed in (0, 0, 1)]
    assert torch.equal(drawn[0], drawn[1])
    assert drawn[0].shape != drawn[2].shape or not torch.equal(drawn[0], drawn[2])


def test_half_of_the_background_lies_near_a_class(monkeypatch):
    monkeypatch.setattr(head_fit, "OTHER_PLACES", 200)
    head = head_for(1)
    label = blocks((1, np.s_[:4, :4, :4]))
    maps = made_maps(head, label)
    size = maps.levels[0].shape[1:]
    for channel, index in enumerate(np.indices(size)):
        maps.levels[0][channel] = torch.from_numpy(index)
    places = sample_places(head, [LabeledMaps(maps, label, (True,))], np.random.default_rng(0))
    at = places.features[places.shares[:, 0] == 1, :3].numpy()
    distance = np.linalg.norm(np.maximum(at - 1, 0), axis=1)  # of the class's places, 0 to 1 along each axis
    near, far = np.count_nonzero(distance <= 6), np.count_nonzero(distance > 6)
    assert near >= 100 > far > 60, "drawn alike there would be one of seven near it"


def test_places_have_the_features_that_the_head_sees():
    """All of them, in order, against the interpolation of whole maps, as in the head."""
    head = head_for(1)
    label = blocks((1, LEFT))
    maps = made_maps(head, label)
    places = sample_places(head, [LabeledMaps(maps, label, (True,))], np.random.default_rng(0))
    size = maps.levels[0].shape[1:]
    whole = [
        F.interpolate(level[None].float(), size=tuple(size), mode="trilinear")[0].flatten(1).T for level in maps.levels
    ]
    assert len(places.features) == np.prod(size), "more places are asked for than there are"
    torch.testing.assert_close(places.features.float(), torch.cat(whole, dim=1), atol=1e-3, rtol=1e-3)


def test_the_head_is_the_mean_of_three_perceptrons(monkeypatch):
    head = head_for(2)
    label = blocks((1, LEFT), (2, RIGHT))
    maps = made_maps(head, label)
    with torch.no_grad():
        head.voxel_output.weight.normal_()  # of an earlier training
    seen: dict[int, torch.nn.Module] = {}
    fitted = head_fit._fitted

    def watched(features, weighed, hidden, seed, steps, on_step):
        seen[seed] = fitted(features, weighed, hidden, seed, steps, on_step)
        return seen[seed]

    monkeypatch.setattr(head_fit, "_fitted", watched)
    fit_head(head, [LabeledMaps(maps, label, (True, True))], 4, FEW)
    assert sorted(seen) == [12, 13, 14], "each has a seed of its own, which no other run's has"
    places = sample_places(head, [LabeledMaps(maps, label, (True, True))], np.random.default_rng(4))
    features = places.features.double()
    features = (features - features.mean(dim=0)) / features.std(dim=0, correction=0)
    fine, tokens = head.trunk.fine_width, 2 * BACKBONE.width
    total = torch.zeros(len(features), 3, dtype=torch.float64)
    for seed, columns in zip(sorted(seen), (slice(fine), slice(-tokens), slice(None)), strict=True):
        perceptron = seen[seed]
        hidden, bias = perceptron.first.weight.double(), perceptron.first.bias.double()
        units = F.gelu(features[:, columns] @ hidden.T + bias)
        assert units.shape[1] == UNITS
        total += units @ perceptron.last.weight.double().T + perceptron.last.bias.double()
    with torch.no_grad():
        voxels, coarse = head.logits([level[None].float() for level in maps.levels])
    torch.testing.assert_close(coarse[0].flatten(1).T.double(), total / 3, atol=1e-3, rtol=1e-3)
    between = F.interpolate(coarse, size=SHAPE, mode="trilinear")
    torch.testing.assert_close(voxels, between, atol=1e-5, rtol=1e-5)


def test_perceptrons_drop_units_and_their_rate_falls_as_half_a_cosine(monkeypatch):
    perceptron = head_fit._Perceptron(8, 3, torch.Generator().manual_seed(0))
    perceptron.last = torch.nn.Identity()
    x = torch.randn(200, 8, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        units, kept = F.gelu(perceptron.first(x)), perceptron(x)
    assert float((kept == 0).float().mean()) == pytest.approx(0.3, abs=0.02)
    torch.testing.assert_close(kept[kept != 0], units[kept != 0] / 0.7)

    rates: list[float] = []

    class Watched(torch.optim.AdamW):
        def step(self, closure=None):
            rates.append(self.param_groups[0]["lr"])
            return super().step(closure)

    monkeypatch.setattr(torch.optim, "AdamW", Watched)
    label = blocks((1, LEFT))
    head = head_for(1)
    fit_head(head, [LabeledMaps(made_maps(head, label), label, (True,))], 0, FEW)
    expected = [head_fit.LEARNING_RATE * (1 + np.cos(np.pi * step / FEW)) / 2 for step in range(FEW)]
    assert sorted(rates) == pytest.approx(sorted(3 * expected))


@pytest.mark.parametrize("classes", [1, 250])
def test_few_and_many_classes(classes):
    head = head_for(classes)
    label = np.zeros(SHAPE, dtype=np.uint8)
    columns = list(np.ndindex(16, 6, 3))[: min(classes, 250)]
    for number, (i, j, k) in enumerate(columns, 1):
        label[2 * i : 2 * i + 2, 4 * j : 4 * j + 2, 8 * k : 8 * k + 4] = number
    assert len(np.unique(label)) == classes + 1
    scan = LabeledMaps(made_maps(head, label > 0), label, (True,) * classes)
    fit_head(head, [scan], 0, 200)
    found = probabilities(head, scan.maps)
    assert found.shape == (classes + 1, *SHAPE)
    assert np.isfinite(found).all()
    held = label > 0
    assert found[0][~held].mean() > 2 * found[0][held].mean(), "something is told from nothing"


def test_a_class_of_one_voxel_is_not_passed_over():
    head = head_for(2)
    label = blocks((1, LEFT))
    label[25, 12, 12] = 2
    maps = made_maps(head, label)
    maps.levels[0][1, 12, 6, 6] = 6.0
    fit_head(head, [LabeledMaps(maps, label, (True, True))], 0, 400)
    with torch.inference_mode():
        places = head.logits([level[None].float() for level in maps.levels])[1][0].softmax(dim=0)[2].numpy()
    assert np.isfinite(places).all()
    assert np.unravel_index(places.argmax(), places.shape) == (12, 6, 6)
    assert places.max() > 0.3
    assert np.median(places) < 0.01


def test_each_step_can_stop_the_fit():
    head = head_for(1)
    label = blocks((1, LEFT))
    before = {name: entry.clone() for name, entry in weights(head).items()}
    calls: list[int] = []

    def stop() -> None:
        calls.append(1)
        if len(calls) > 5:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        fit_head(head, [LabeledMaps(made_maps(head, label), label, (True,))], 0, FEW, stop)
    assert all(torch.equal(before[name], entry) for name, entry in weights(head).items())
