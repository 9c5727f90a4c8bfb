"""The pre-trained backbone that comes with the extension, as far as it can be told without torch."""

from __future__ import annotations

from pathlib import Path

from glmae.model_folder import CARD

MODELS = Path(__file__).resolve().parents[2] / "Resources" / "Models"
NAME = "tiny"  # of several, the one that the engine starts from: its FinetuneConfig.preset


def shipped_backbone(folder: Path | None = None) -> str:
    """Name of the one that a training starts from; "" where it is not installed.

    Args:
        folder: with one folder a backbone; None: where the extension has them.
    """
    return NAME if ((folder or MODELS) / NAME / CARD).is_file() else ""
