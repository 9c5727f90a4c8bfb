"""The network peers: MONAI's sliding window, the batch that is fast, and rows with what ours does after the network."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from scipy import ndimage
from torch import Tensor, nn

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
SCANS = BENCHMARKS.parent / "GLMAESegmentation" / "Resources" / "SampleScans"
NAMES = ("hippocampus_039", "hippocampus_207")
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _benchmarks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))


class Everywhere(nn.Module):
    """0.2 background, 0.5 class 1, 0.3 class 2 in every voxel; counts the windows of each pass."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[int] = []

    def forward(self, x: Tensor) -> list[Tensor]:
        assert not self.training
        self.seen.append(len(x))
        return [torch.tensor([0.2, 0.5, 0.3]).log().view(1, 3, 1, 1, 1).expand(len(x), 3, *x.shape[2:])]


@pytest.mark.parametrize(("bfloat16", "batch"), [(True, 1), (False, 2)])
def test_two_crops_in_a_step_where_one_is_slow(bfloat16, batch, monkeypatch):
    monkeypatch.setattr("glmae.devices._cpu_multiplies_bfloat16", lambda: bfloat16)
    from peers import segresnet
    from peers.dynunet import tuned

    assert tuned("cpu")["batch"] == batch
    asked = []
    monkeypatch.setattr(segresnet, "run_network", lambda task, build, config: asked.append(config.batch))
    segresnet.run(task_of("segresnet", Path()))
    assert asked == [batch]


def test_windows_are_those_of_monai(monkeypatch):
    """A thin scan is padded, probabilities are averaged, and a batch of one is not used in float32."""
    from peers.training import class_probabilities

    monkeypatch.setattr("glmae.devices._cpu_multiplies_bfloat16", lambda: False)
    network = Everywhere().train()
    found = class_probabilities(network, np.zeros((1, 8, 40, 17), np.float16), (16, 16, 16), CPU)
    assert (found.shape, found.dtype) == ((3, 8, 40, 17), np.float32)
    np.testing.assert_allclose(found, np.broadcast_to([[[[0.2]]], [[[0.5]]], [[[0.3]]]], found.shape), atol=1e-5)
    assert (max(network.seen), sum(network.seen)) == (2, 8)

    class Border(nn.Module):
        """Says another thing in the middle of a window than at its borders."""

        def forward(self, x: Tensor) -> list[Tensor]:
            logits = torch.full((len(x), 2, *x.shape[2:]), -9.0)
            logits[:, 1] = 9.0
            logits[:, :, 4:12, 4:12, 4:12] = torch.tensor([9.0, -9.0]).view(2, 1, 1, 1)
            return [logits]

    found = class_probabilities(Border(), np.zeros((1, 24, 16, 16), np.float32), (16, 16, 16), CPU)
    bell = np.exp(-(((np.arange(16) - 7.5) / 2) ** 2) / 2)
    outside, inside = bell[2], bell[10]  # of voxel 10 as the two windows, from 0 and from 8, see it
    assert found[0, 10, 8, 8] == pytest.approx(inside / (inside + outside), abs=0.03)


def test_what_ours_does_after_the_network():
    """The location prior as ours multiplies it, and largest parts of classes that are one piece only."""
    from peers.post_processing import PostProcessing

    from glmae.scans.geometry import Geometry
    from glmae.scans.store import LabeledScan
    from glmae.segmentation.location_prior import LocationPrior

    image = np.zeros((1, 40, 40, 40), dtype=np.float32)
    image[0, 4:-4, 4:-4, 4:-4] = 1
    label = np.zeros((40, 40, 40), dtype=np.uint8)
    label[8:14, 16:24, 16:24], label[26:32, 16:24, 16:24] = 1, 2
    scan = LabeledScan(image, label, (True, True), (1.0, 1.0, 1.0))
    prior = LocationPrior.of([scan])
    post = PostProcessing(prior, None, (2,))
    plain = np.broadcast_to(np.array([0.2, 0.5, 0.3], np.float32).reshape(3, 1, 1, 1), (3, 40, 40, 40)).copy()
    kept = plain.copy()
    found = post.weighed(plain, image, scan.spacing)
    np.testing.assert_array_equal(plain, kept)
    np.testing.assert_allclose(found.sum(axis=0), 1, atol=1e-2)
    winners = found.argmax(axis=0)
    assert (winners[11, 20, 20], winners[29, 20, 20], winners[20, 38, 38]) == (1, 2, 0)

    numbers = np.zeros((10, 10, 10), dtype=np.uint8)
    numbers[:2, :2, :2], numbers[8, 8, 8] = 1, 1
    numbers[5:7, 5:7, 5:7], numbers[0, 9, 9] = 2, 2
    unsure, sure = numbers.copy(), np.full((3, 10, 10, 10), 0.55, dtype=np.float32)
    grid = Geometry((10, 10, 10), (1.0, 1.0, 1.0))
    post.keep_largest_parts(unsure, grid, grid, sure)
    assert [np.count_nonzero(unsure == number) for number in (1, 2)] == [9, 8]
    sure[2, 9, 9, 0] = 1  # [I, J, K]
    post.keep_largest_parts(numbers, grid, grid, sure)
    assert [np.count_nonzero(numbers == number) for number in (1, 2)] == [9, 1]


def test_it_is_the_same_as_after_our_own_network():
    """Location prior and fusion with the labels, on three classes that are found shifted, against our own slabs."""
    from peers.post_processing import PostProcessing

    from glmae.scans.store import LabeledScan
    from glmae.segmentation.atlas_fusion import AtlasFusion
    from glmae.segmentation.class_slabs import class_slabs
    from glmae.segmentation.location_prior import LocationPrior
    from glmae.segmentation.scan_maps import scan_maps

    class Known(nn.Module):
        """Its maps are the probabilities."""

        backbone = SimpleNamespace(config=SimpleNamespace(patch_size=(8, 8, 8)))

        def maps(self, x: Tensor) -> list[Tensor]:
            return [x]

        def logits(self, maps: list[Tensor]) -> list[Tensor]:
            return [maps[0].float().log()]

    image = np.zeros((1, 48, 48, 48), dtype=np.float32)
    image[0, 2:-2, 2:-2, 2:-2] = 1
    label = np.zeros((48, 48, 48), dtype=np.uint8)
    label[6:18, 8:20, 8:20], label[28:40, 8:20, 8:20], label[16:30, 28:40, 24:38] = 1, 2, 3
    spacing = (2.0, 2.0, 2.0)
    scan = LabeledScan(image, label, (True,) * 3, spacing)
    found = np.roll(label, (2, -1, 1), axis=(0, 1, 2))
    plain = np.stack([np.where(found == number, 0.7, 0.1) for number in range(4)]).astype(np.float32)
    location, atlases = LocationPrior.of([scan]), AtlasFusion.of([scan], (1, 2, 3))
    assert atlases is not None
    priors = [location.on(image, spacing)]
    maps = scan_maps(Known(), plain, (48, 48, 48), CPU)

    def weighed(priors: list) -> np.ndarray:
        slabs = class_slabs(Known(), maps, CPU, priors)
        return np.concatenate([slab.probabilities() for slab in slabs], axis=-1, dtype=np.float32)

    first = weighed(priors)
    moved = atlases.on(first.argmax(axis=0).astype(np.uint8), spacing)
    assert moved is not None
    expected = weighed([*priors, moved])
    ours = PostProcessing(location, atlases, (1, 2, 3)).weighed(plain, image, spacing)
    np.testing.assert_allclose(ours, expected, atol=5e-3)
    assert np.abs(ours - first).max() > 0.05, "the labels change something"


def task_of(method: str, work: Path, test: tuple[str, ...] = ()):
    from task import Task

    return Task(
        set_folder=str(work / "set"),
        labels=1,
        seed=0,
        method=method,
        minutes=0.02,
        device="cpu",
        threads=1,
        labeled=NAMES[:1],
        pool=NAMES,
        test=test,
        work=str(work),
    )


def test_a_row_with_post_processing_has_the_same_training(monkeypatch, tmp_path):
    """Of a network that scatters its classes only what lies where they may lie is left, in one piece."""
    from data_set import DataSet
    from methods import METHODS
    from peers import training
    from task import Task

    assert METHODS["dynunet_post"] == METHODS["dynunet"]
    assert METHODS["segresnet_post"] == METHODS["segresnet"]
    monkeypatch.setattr(Task, "data", DataSet("bundled", SCANS, {}))
    monkeypatch.setattr(training, "train", lambda *rest: None)

    class Scattered(nn.Module):
        def __init__(self, shape, config) -> None:
            super().__init__()
            self.first = nn.Conv3d(1, shape.outputs, 3, padding=1)

        def forward(self, x: Tensor) -> list[Tensor]:
            return [20 * self.first(x)]

    results = {}
    for method in ("dynunet", "dynunet_post"):
        task = task_of(method, tmp_path / method, NAMES[1:])
        (tmp_path / method).mkdir()
        outcome = training.run_network(task, Scattered, training.PeerConfig(optimizer="adamw"))
        assert outcome.steps == 0
        results[method] = sitk.GetArrayFromImage(sitk.ReadImage(str(task.predictions / f"{NAMES[1]}.nii.gz")))
    pieces = {
        method: [ndimage.label(found == number, np.ones((3, 3, 3)))[1] for number in (1, 2)]
        for method, found in results.items()
    }
    assert max(pieces["dynunet"]) > 5
    assert max(pieces["dynunet_post"]) <= 1
    changed = results["dynunet"] != results["dynunet_post"]
    assert np.count_nonzero(changed) > 0


def test_the_instant_model_is_a_method_of_its_own(monkeypatch, tmp_path):
    """It is asked for no steps, whatever the minutes; the others for minutes."""
    import few_label
    import ours
    from data_set import DataSet
    from task import Task

    monkeypatch.setattr(Task, "data", DataSet("bundled", SCANS, {}))
    asked = []

    class Enough(Exception):
        pass

    def finetune(**words: object) -> None:
        asked.append((words["steps"], words["minutes"], words["backbone"]))
        raise Enough

    monkeypatch.setattr(ours, "finetune", finetune)
    for method in ("glmae", "glmae_scratch", "glmae_instant"):
        with pytest.raises(Enough):
            ours.run(task_of(method, tmp_path))
    assert asked == [(None, 0.02, None), (None, 0.02, "none"), (0, None, None)]

    monkeypatch.setattr(ours, "backbone_is_shipped", lambda: False)
    assert few_label._possible(["glmae", "glmae_instant", "dynunet_post"]) == ["dynunet_post"]
