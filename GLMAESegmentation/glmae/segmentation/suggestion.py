"""Which scan to label next: those of which the network is unsure, and which are unlike those it knows."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
import torch

from ..devices import choose_device
from ..errors import RequestError, ScanError, Stopped
from ..events import Events, silent
from ..files import write_json
from ..model_folder import read_model
from ..scans.cases import Case, content_hash, find_images
from ..scans.geometry import Geometry
from ..scans.image import read_channels
from ..scans.preparation import prepare_image
from ..scans.resampling import resample
from ..scans.written_image import write_image
from .features import scan_features
from .model import Model, load_model
from .sliding_window import class_probabilities

# A scan unlike all others (another organ, a broken one) shall not come first for that alone.
_FARTHEST = 2.0


@dataclass(frozen=True)
class ScanView:
    """What the network makes of one unlabelled scan.

    Attributes:
        case: name of the case.
        expected_dice: for each class, see `expected_dice`.
        features: see `features.scan_features`.
    """

    case: str
    expected_dice: np.ndarray
    features: np.ndarray


@dataclass(frozen=True)
class Suggestion:
    """One scan in the order in which to label.

    Attributes:
        case: name of the case.
        rank: 1 for the scan to label first.
        gain: uncertainty times distance.
        uncertainty: 1 - the mean of the Dice that the network expects of itself, 0-1.
        distance: to the nearest scan that is labelled or ranked before, in medians of all distances, at most 2.
        reason: one line for people.
    """

    case: str
    rank: int
    gain: float
    uncertainty: float
    distance: float
    reason: str


def suggest(
    *,
    model: Path,
    images: Sequence[Path],
    out: Path | None = None,
    uncertainty: Path | None = None,
    device: str = "auto",
    events: Events | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> list[str]:
    """Rank unlabelled scans by what labelling them is expected to bring; the same as `glmae suggest`.

    Args:
        model: folder made by `finetune`. Scans that it was trained on are passed over, by their content.
        images: scans, folders of scans, or lists of paths.
        out: JSON file for the ranking; None: it is only reported.
        uncertainty: folder for `NAME.uncertainty.nii.gz`, on the grid of the scan: the entropy of the classes in each
            voxel, 0 sure, 1 all alike; None: none is written.
        device: auto, cpu, cuda or mps.
        events: where to report to; `suggestion` for each scan, the first to label first.
        should_stop: asked between windows.

    Returns:
        The names of the cases that failed; each was reported as an event.

    Raises:
        RequestError: no scans were found, or none is left that could be labelled.
        ModelError: the model folder cannot be used.
        StorageError: a result cannot be written.
        Stopped: the user stopped.
    """
    events = events or silent()
    cases = find_images(list(images))
    _check_out(out, uncertainty)
    chosen, reason = choose_device(device)
    opened = load_model(Path(model), chosen)
    known_hashes, known = _training_cases(read_model(Path(model)).content, opened.network.backbone.config.width)
    events.started("suggest", cases=len(cases), classes=list(opened.classes.names), device=str(chosen))
    events.info(reason)
    if not len(known):
        events.info("This model does not say what its training scans look like; only uncertainty and variety count.")
    views: list[ScanView] = []
    failed, began = [], time.monotonic()

    def check() -> None:
        if should_stop():
            raise Stopped("stopped; run the same command again")

    for number, case in enumerate(cases):
        left = (time.monotonic() - began) / number * (len(cases) - number) if number else None
        events.progress("suggest", number, len(cases), left, case=case.name)
        check()
        try:
            view = _view(opened, case, known_hashes, chosen, uncertainty, events, check)
        except ScanError as error:
            failed.append(case.name)
            events.case(case.name, "failed", name=type(error).__name__, message=str(error))
            continue
        if view is None:
            events.case(case.name, "skipped", message=f"{case.name} is labelled already: the model was trained on it")
        else:
            views.append(view)
    events.progress("suggest", len(cases), len(cases), 0.0)
    if not views:
        raise RequestError("no scan is left to label: each was trained on already, or cannot be read; name others")
    ranking = rank(views, known, opened.classes.names)
    for suggestion in ranking:
        events.emit("suggestion", **asdict(suggestion))
    if out is not None:
        write_json(out, {"suggestions": [asdict(suggestion) for suggestion in ranking]})
    message = f"Label {ranking[0].case} next."
    events.finished("suggest", failed=failed, message=message, **({} if out is None else {"out": str(out)}))
    return failed


def expected_dice(probabilities: np.ndarray) -> np.ndarray:
    """The Dice that a network expects of its own segmentation, class by class, were its probabilities right.

    "Soft Dice confidence" (Borges et al., arXiv 2402.10665): 2 * sum of p over the segmented voxels / (their number +
    sum of p over all). A class of which nothing was segmented has 0.

    Args:
        probabilities: [n + 1, I, J, K], background first; they sum to 1 in each voxel.

    Returns:
        [n].
    """
    winner = probabilities.argmax(axis=0)
    scores = []
    for number in range(1, len(probabilities)):
        mask, share = winner == number, probabilities[number]
        total = np.count_nonzero(mask) + float(share.sum(dtype=np.float64))
        scores.append(2 * float(share[mask].sum(dtype=np.float64)) / total if total else 0.0)
    return np.array(scores)


def entropy(probabilities: np.ndarray) -> np.ndarray:
    """Uncertainty of each voxel, 0 (sure) to 1 (all classes alike): [I, J, K] of [n + 1, I, J, K]."""
    total = np.zeros(probabilities.shape[1:], dtype=np.float32)
    for share in probabilities:  # class by class, to need little memory
        total -= share * np.log(np.maximum(share, 1e-12))
    return np.clip(total / np.log(len(probabilities)), 0, 1)


def rank(views: Sequence[ScanView], known: np.ndarray, names: Sequence[str]) -> list[Suggestion]:
    """The order in which to label.

    One after the other, the scan with the largest uncertainty * distance is taken; distance is that to the nearest scan
    labelled or taken before, so that four suggestions are not four times the same.

    Args:
        views: of the unlabelled scans.
        known: features of the labelled scans, [m, width]; m may be 0.
        names: of the classes.
    """
    features = np.stack([*known, *(view.features for view in views)])
    apart = np.stack([np.linalg.norm(features - one, axis=1) for one in features])
    others = apart[np.triu_indices(len(apart), 1)]
    unit = float(np.median(others)) if len(others) and np.median(others) > 0 else 1.0
    apart = np.minimum(apart / unit, _FARTHEST)
    uncertainty = np.array([1 - float(view.expected_dice.mean()) for view in views])
    taken, ranking = list(range(len(known))), list[Suggestion]()
    left = list(range(len(views)))
    while left:
        distance = {i: float(apart[len(known) + i, taken].min()) if taken else 1.0 for i in left}
        best = max(left, key=lambda i: (uncertainty[i] * distance[i], -i))
        nearest = min(taken, key=lambda j: apart[len(known) + best, j]) if taken else None
        like = None if nearest is None or nearest < len(known) else views[nearest - len(known)].case
        ranking.append(
            Suggestion(
                case=views[best].case,
                rank=len(ranking) + 1,
                gain=round(float(uncertainty[best] * distance[best]), 4),
                uncertainty=round(float(uncertainty[best]), 4),
                distance=round(distance[best], 4),
                reason=_reason(views[best], names, distance[best] if taken else None, like),
            )
        )
        left.remove(best)
        taken.append(len(known) + best)
    return ranking


def _reason(view: ScanView, names: Sequence[str], distance: float | None, like: str | None) -> str:
    """One line: what the network makes of the scan, and which scan it is like."""
    lost = [name for name, dice in zip(names, view.expected_dice, strict=True) if dice == 0]
    worst = int(view.expected_dice.argmin())
    if len(lost) == len(names):
        first = "nothing was found in it"
    elif lost:
        first = f"{', '.join(lost[:3])}{' and more' if len(lost) > 3 else ''} not found"
    else:
        first = f"the model expects Dice {view.expected_dice.mean():.2f}"
        first += f", least for {names[worst]} ({view.expected_dice[worst]:.2f})" if len(names) > 1 else ""
    if distance is None:
        return first
    other = "the labelled scans" if like is None else f"{like}, which comes first"
    if distance >= 1:
        return f"{first}; unlike the labelled scans" if like is None else f"{first}; unlike any scan before it"
    return f"{first}; {'much' if distance < 0.5 else 'somewhat'} like {other}"


def _view(
    model: Model,
    case: Case,
    known_hashes: frozenset[str],
    device: torch.device,
    maps: Path | None,
    events: Events,
    on_window: Callable[[], None],
) -> ScanView | None:
    """None if the model was trained on this scan."""
    scan = read_channels(case.images, events)
    if content_hash(scan) in known_hashes:
        return None
    try:
        image, grid = prepare_image(scan, model.preparation)
    except ScanError as error:
        raise ScanError(f"{case.name}: {error}") from error
    location = model.location.on(image, grid.spacing) if model.location else None
    probabilities = class_probabilities(model.network, image, model.config.patch, device, on_window, location)
    if maps is not None:
        spread = sitk.GetImageFromArray(np.ascontiguousarray(entropy(probabilities).transpose()))
        grid.place(spread)
        write_image(
            Path(maps) / f"{case.name}.uncertainty.nii.gz", resample(spread, Geometry.of(scan[0]), outside=None)
        )
    features = scan_features(model.network, image, model.config.patch, device)
    return ScanView(case.name, expected_dice(probabilities), features)


def _training_cases(content: Any, width: int) -> tuple[frozenset[str], np.ndarray]:
    """Hashes and features [m, width] of the scans that a model was trained on; older models have no features."""
    entries = [entry for entry in content.get("training_cases", ()) if isinstance(entry, dict)]
    features = [entry["features"] for entry in entries if len(entry.get("features", ())) == width]
    hashes = frozenset(str(entry.get("sha256")) for entry in entries)
    return hashes, np.array(features, dtype=np.float32).reshape(-1, width)


def _check_out(out: Path | None, maps: Path | None) -> None:
    if out is not None and Path(out).is_dir():
        raise RequestError(f"{out} is a folder; name a file for the ranking with --out")
    if maps is not None and Path(maps).exists() and not Path(maps).is_dir():
        raise RequestError(f"{maps} is a file; choose a folder with --uncertainty")
