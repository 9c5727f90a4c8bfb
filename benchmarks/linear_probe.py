"""A linear head on frozen tokens: what a backbone has learnt, without what fine-tuning learns in its place.

The same head from a random and from a pre-trained backbone: the better the tokens, the higher its Dice.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from data_set import DataSet
from torch import Tensor, nn
from torch.nn import functional as F

from glmae.backbone.presets import preset
from glmae.backbone.vision_transformer import VisionTransformer
from glmae.backbone.weights import load_backbone
from glmae.events import silent
from glmae.scans.cases import find_cases
from glmae.scans.classes import IGNORE
from glmae.scans.measurement import measure
from glmae.scans.preparation import plan_preparation
from glmae.scans.store import ScanStore
from glmae.segmentation.finetune_config import CROP_VOXELS, SCAN_VOXELS, FinetuneConfig, plan_crop

# Steps of L-BFGS, and the weight of the squared coefficients: enough to converge on some thousand tokens.
_STEPS, _DECAY = 100, 1e-3


def linear_probe(
    data: DataSet, labelled: Sequence[str], test: Sequence[str], backbone: Path | None, seed: int, work: Path
) -> float:
    """Mean Dice of the test scans, classes averaged, on the prepared grid.

    Scans are prepared as in fine-tuning and cut into its crops, side by side. Each token of the last block gives the
    classes' shares in its patch by multinomial logistic regression; the shares are interpolated to voxels, and the
    largest wins. Classes weigh as one over the root of their share of the training scans.

    Args:
        data: the set.
        labelled: the scans to learn the head from.
        test: the scans to score on.
        backbone: its folder; None: random weights.
        seed: of the random weights.
        work: folder for the prepared scans.
    """
    cases, table = find_cases(data.images, data.labels, [*labelled, *test])
    training = [case for case in cases if case.name in labelled]
    preparation = plan_preparation(measure(training, table, silent()), SCAN_VOXELS["cpu"])
    store = ScanStore.prepare(work, cases, preparation, table)
    channels = store.channels
    if backbone is None:
        torch.manual_seed(seed)
        network = VisionTransformer(preset(FinetuneConfig.preset, channels=channels))
    else:
        network = load_backbone(backbone, channels=channels, events=silent())
    token = network.config.patch_size
    known = [number for number, name in enumerate(store.names) if name in labelled]
    shapes = [store.image(number).shape[1:] for number in known]
    window = plan_crop([(i, j, k) for i, j, k in shapes], token, CROP_VOXELS["cpu"])

    tokens, shares = [], []
    for number in known:
        label = store.label(number)
        assert label is not None
        for box, grid in token_grids(network, store.image(number), window):
            part = shares_in_patches(_padded(label[box], window, IGNORE), token, len(table))
            tokens.append(grid.flatten(1).T)
            shares.append(part.flatten(1).T)
    head = fit(torch.cat(tokens), torch.cat(shares))

    scores = []
    for number, name in enumerate(store.names):
        if name not in test:
            continue
        label = store.label(number)
        assert label is not None
        found = np.zeros(label.shape, dtype=np.uint8)
        for box, grid in token_grids(network, store.image(number), window):
            logits = head(grid.flatten(1).T).T.unflatten(1, grid.shape[1:])
            fine = F.interpolate(logits[None], window, mode="trilinear", align_corners=False)[0].argmax(0)
            within = found[box].shape
            found[box] = fine[: within[0], : within[1], : within[2]].numpy()
        drawn = [number for number, there in enumerate(store.annotated(number), 1) if there]
        scores.append(np.mean([_dice(found, label, number) for number in drawn]))
    return float(np.mean(scores))


@torch.inference_mode()
def token_grids(
    network: VisionTransformer, image: np.ndarray, window: tuple[int, int, int]
) -> Iterator[tuple[tuple[slice, ...], Tensor]]:
    """Windows side by side that cover a scan [C, I, J, K]: where each lies, and its last tokens [width, i, j, k]."""
    network.eval()
    for corner in np.ndindex(*(-(-side // step) for side, step in zip(image.shape[1:], window, strict=True))):
        box = tuple(slice(c * step, (c + 1) * step) for c, step in zip(corner, window, strict=True))
        part = np.asarray(image[(slice(None), *box)], dtype=np.float32)
        part = np.stack([_padded(channel, window) for channel in part])
        (tokens,) = network.features(torch.from_numpy(part)[None], [len(network.blocks) - 1])
        yield box, tokens[0].float().clone()


def shares_in_patches(label: np.ndarray, token: tuple[int, int, int], classes: int) -> Tensor:
    """Shares of background and the classes in each patch of a label [I, J, K], of its known voxels: [n+1, i, j, k].

    Where nothing is known all shares are 0.
    """
    maps = torch.stack([torch.from_numpy(label == number).float() for number in range(classes + 1)])
    means = F.avg_pool3d(maps, token)
    return means / means.sum(0).clamp_min(1e-6)


def fit(tokens: Tensor, shares: Tensor) -> nn.Module:
    """Multinomial logistic regression from tokens [N, width] to shares [N, n+1]; a row of zeros does not count."""
    mean, deviation = tokens.mean(0), tokens.std(0).clamp_min(1e-6)
    standard = (tokens - mean) / deviation
    weights = shares.mean(0).clamp_min(1e-6) ** -0.5
    wanted = shares * weights
    linear = nn.Linear(tokens.shape[1], shares.shape[1])
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
    optimizer = torch.optim.LBFGS(linear.parameters(), max_iter=_STEPS, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = -(wanted * linear(standard).log_softmax(1)).sum() / wanted.sum() + _DECAY * linear.weight.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    linear.requires_grad_(False)
    linear.bias.sub_(linear.weight @ (mean / deviation))
    linear.weight.div_(deviation)
    return linear


def _padded(part: np.ndarray, window: Sequence[int], value: int | None = None) -> np.ndarray:
    """An array [I, J, K] with planes added at its ends, of `value` or, if None, of its border's values."""
    missing = [(0, side - have) for side, have in zip(window, part.shape, strict=True)]
    if value is None:
        return np.pad(part, missing, mode="edge")
    return np.pad(part, missing, constant_values=value)


def _dice(found: np.ndarray, label: np.ndarray, number: int) -> float:
    known = label != IGNORE
    a, b = (found == number) & known, label == number
    total = np.count_nonzero(a) + np.count_nonzero(b)
    return 2 * float(np.count_nonzero(a & b)) / total if total else 1.0
