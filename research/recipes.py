"""The paper's fine-tuning, one recipe a data set; research/README.md tells what is the authors' and what our choice."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from glmae.errors import RequestError
from glmae.events import Events, silent
from glmae.scans.case import Case
from glmae.scans.classes import ClassTable
from glmae.scans.normalization import Normalization
from glmae.scans.preparation import Preparation

from .published_layout import read_published

# The paper's ViT-B/16.
PRESET, TOKEN = "base", 16
# How long the authors trained is not known; the warm-up of 50 epochs is (from the lineage).
EPOCHS, WARM_UP_EPOCHS = 1000, 50


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How the paper fine-tunes on one data set.

    Attributes:
        name: of the recipe, and of the set in `published_layout`.
        train: number of labeled scans to train on, the first in the order of their names.
        validation: number of those to score on, the next ones.
        spacing: along R, A, S, mm.
        window: the HU that are scaled to [0, 1]; None: each channel's own mean and deviation.
        crop: voxels along R, A, S.
        channels: of a scan.
        regions: what is scored instead of the classes: a name and the values of the labels that belong to it.
    """

    name: str
    train: int
    validation: int
    spacing: tuple[float, float, float] = (1.5, 1.5, 1.5)
    window: tuple[float, float] | None = (-175.0, 250.0)
    crop: tuple[int, int, int] = (96, 96, 96)
    channels: int = 1
    regions: tuple[tuple[str, tuple[int, ...]], ...] = ()

    @property
    def preparation(self) -> Preparation:
        """Spacing and intensities, whatever the scans are like."""
        one = Normalization("zscore") if self.window is None else Normalization.window(*self.window)
        return Preparation(self.spacing, (one,) * self.channels)

    @property
    def settings(self) -> dict[str, Any]:
        """The fields of `FinetuneConfig` that are not the planned ones."""
        return {
            # A side that is no multiple of the token patch (BraTS21's 120) is rounded up.
            "crop": [math.ceil(side / TOKEN) * TOKEN for side in self.crop],
            "preset": PRESET,
            "start_steps": 0,
            "batch": 4,
            "foreground": 0.5,
            "rate": 1e-4,
            "trunk_rate": 1e-4,
            "backbone_rate": 1e-4,
            "weight_decay": 1e-5,
            "warm_up": WARM_UP_EPOCHS / EPOCHS,
            "average": 0.0,
        }

    @property
    def steps(self) -> int:
        """Length of the run: in an epoch, each training scan gives one batch."""
        return EPOCHS * self.train

    def cases(self, folder: Path, part: str, events: Events | None = None) -> tuple[list[Case], ClassTable]:
        """The cases of one part of the published set, and the classes.

        Where the folder holds fewer scans than the paper had, both parts shrink alike, with a warning.

        Args:
            folder: the set, as it was published.
            part: train or validation.
            events: told which scans these are.

        Raises:
            RequestError: the folder does not hold the set.
        """
        events = events or silent()
        found, classes = read_published(self.name, folder)
        train, wanted = self.train, self.train + self.validation
        if len(found) < wanted:
            train = max(1, min(len(found) - 1, round(len(found) * self.train / wanted)))
            events.warning(
                f"{folder} holds {len(found)} labeled scans where the paper had {wanted}; the first {train} are the "
                "training scans."
            )
        chosen = found[:train] if part == "train" else found[train:wanted]
        if not chosen:
            raise RequestError(f"{folder} holds too few labeled scans to keep one for validation; complete the set.")
        events.info(f"{self.name}, {part}: {len(chosen)} scans, {chosen[0].name} to {chosen[-1].name}.")
        return chosen, classes


RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe(name="btcv", train=24, validation=6),
        Recipe(name="mmwhs", train=16, validation=4, window=(0.0, 1700.0)),
        Recipe(name="spleen", train=32, validation=9),
        Recipe(name="amos22", train=240, validation=60),
        Recipe(name="word", train=80, validation=20),
        Recipe(
            name="covid19",
            train=160,
            validation=39,
            spacing=(1.25, 1.25, 5.0),
            window=(-1000.0, 500.0),
            crop=(192, 192, 32),
        ),
        Recipe(
            name="brats21",
            train=387,
            validation=97,
            spacing=(1.0, 1.0, 1.0),
            window=None,
            crop=(224, 224, 120),
            channels=4,
            regions=(("whole tumor", (1, 2, 4)), ("tumor core", (1, 4)), ("enhancing tumor", (4,))),
        ),
    )
}
