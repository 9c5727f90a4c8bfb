"""The pre-trained backbone that comes with the extension, as far as it can be told without torch."""

from __future__ import annotations

from pathlib import Path

from glmae.model_folder import CARD

MODELS = Path(__file__).resolve().parent.parent / "Resources" / "Models"


def shipped_backbone(folder: Path | None = None) -> str:
    """Its name; "" where none is installed.

    Args:
        folder: with one folder a backbone; None: where the extension has them.
    """
    return next((card.parent.name for card in sorted((folder or MODELS).glob(f"*/{CARD}"))), "")
