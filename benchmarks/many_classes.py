"""A trained model with any number of classes: its first ones, or its own and variants of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from glmae.scans.classes import ClassTable, SegmentClass
from glmae.segmentation.model import load_model, save_model
from glmae.segmentation.network import SegmentationNetwork

# Variants of a class differ by this share of the spread of its weights, so that they divide its voxels among them.
VARIATION = 0.3


def write_model_with_classes(trained: Path, classes: int, out: Path) -> None:
    """Write a model folder of `classes` classes, made from the one in `trained`."""
    model = load_model(trained, torch.device("cpu"))
    network = SegmentationNetwork(model.network.backbone.config, classes)
    random = torch.Generator().manual_seed(0)
    weights = model.network.state_dict()
    for name, wanted in network.state_dict().items():
        have = weights[name]
        if have.shape == wanted.shape:
            continue
        # The same number of rows for each class (one, or one a sub-voxel), background first.
        own = len(model.classes.classes)
        groups = have.unflatten(0, (own + 1, -1))
        found = [groups[0]]
        for number in range(classes):
            variant = torch.randn(groups[0].shape, generator=random) * have.std() * VARIATION
            found.append(groups[1 + number % own] + (variant if number >= own else 0))
        weights[name] = torch.cat(found)
    network.load_state_dict(weights)
    table = ClassTable(tuple(SegmentClass(number, f"structure {number}") for number in range(1, classes + 1)))
    # Without the places of the classes: what is compared has none either, and variants have no place of their own.
    named = replace(model, network=network, classes=table, location=None, atlases=None)
    save_model(out, named, {"schedule": {}, "scores": None})
