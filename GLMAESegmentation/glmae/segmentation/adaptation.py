"""Adapting a backbone to the user's own scans: GL-MAE goes on, on images without labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from ..backbone.presets import PRESETS
from ..backbone.weights import DECODER_NAMES, TRUNK, WEIGHTS, load_backbone, read_weights
from ..events import Events
from ..pretraining.configuration import pretrain_config
from ..pretraining.job import pretrain
from ..run_folder import RunFolder
from ..scans.cases import Case
from ..scans.preparation import Preparation
from ..scans.store import ScanStore


def adapt_backbone(
    folder: Path,
    cases: Sequence[Case],
    preparation: Preparation,
    *,
    preset: str,
    source: Path | None,
    steps: int | None,
    minutes: float | None,
    seed: int,
    device: str,
    events: Events,
    should_stop: Callable[[], bool],
) -> tuple[Path, list[str]]:
    """Pre-train on `cases` with GL-MAE, starting from `source` (or from scratch), prepared as for fine-tuning.

    Args:
        folder: run folder of the adaptation; a finished or interrupted one is gone on with.
        cases: scans whose labels, if any, are not looked at.
        preparation: that of the fine-tuning run.
        preset: of a backbone from scratch.
        source: folder of the backbone to start from.
        steps: length; exclusive with `minutes`.
        minutes: length.
        seed: of everything random.
        device: auto, cpu, cuda or mps.
        events: where to report to.
        should_stop: see `pretrain`.

    Returns:
        The folder of the adapted backbone, and the names of the scans that could not be used.
    """
    run = RunFolder(folder, {"seed": seed}, resume=True)
    if run.finished:
        return folder, []
    run.begin()
    store = ScanStore.prepare(
        run.unfinished / "scans", cases, preparation, None, events, read_failures="skip", should_stop=should_stop
    )
    channels = len(preparation.normalisation)
    if source is None:
        config, initial = pretrain_config(preset, channels=channels, seed=seed), None
    else:
        encoder = load_backbone(source, channels=channels, events=events)
        known = encoder.config.name if encoder.config.name in PRESETS else "base"
        config = pretrain_config(known, backbone=encoder.config, seed=seed)
        beside = (*DECODER_NAMES, TRUNK)
        others = {name: t for name, t in read_weights(source / WEIGHTS).items() if name.startswith(beside)}
        initial = encoder.state_dict() | others
    pretrain(
        config,
        store,
        run,
        steps=steps,
        minutes=minutes,
        device=device,
        initial_weights=initial,
        events=events,
        should_stop=should_stop,
    )
    return folder, sorted({case.name for case in cases} - set(store.names))
