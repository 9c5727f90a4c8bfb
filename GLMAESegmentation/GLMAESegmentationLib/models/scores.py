"""How good a model is, as its card says: held-out Dice of each class with its uncertainty."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..engine.progress import number
from ..translation import tr as _


@dataclass(frozen=True)
class Score:
    """A mean Dice, 0-1, with the bounds of its interval where they are known."""

    name: str
    dice: float
    interval: tuple[float, float] | None = None

    @property
    def text(self) -> str:
        """As it is shown."""
        if self.interval is None:
            return f"{self.dice:.2f}"
        return _("{dice:.2f} (likely {low:.2f} to {high:.2f})").format(
            dice=self.dice, low=self.interval[0], high=self.interval[1]
        )


def model_scores(card: Mapping[str, Any]) -> list[Score]:
    """The mean over all classes first, then each class; empty when the model was not scored. Unknown keys are ignored.

    Args:
        card: the content of a model.json; `scores` is null or `{"mean_dice", "interval", "classes": {NAME: ...}, ...}`.
    """
    scores = card.get("scores")
    if not isinstance(scores, Mapping):
        return []
    found = [_score(_("All classes"), scores)]
    classes = scores.get("classes")
    if isinstance(classes, Mapping):
        found += [_score(str(name), entry) for name, entry in classes.items()]
    return [score for score in found if score is not None]


def advice(card: Mapping[str, Any]) -> str:
    """Whether more labelled scans would help, in the words of the card; else why the model was not scored."""
    scores = card.get("scores")
    if isinstance(scores, Mapping):
        keys = ("failure", "more_labels") if number(scores.get("mean_dice")) is not None else ("failure", "note")
        sentences = [scores.get(key) for key in keys]
        return " ".join(sentence for sentence in sentences if isinstance(sentence, str))
    return _("This model was not scored on held-out scans; look at its results before you rely on them.")


def origin(card: Mapping[str, Any]) -> str:
    """What a model was made of: how many scans, which backbone; "" where the card does not say."""
    cases = card.get("training_cases")
    if not isinstance(cases, Sequence):
        return ""
    backbone = card.get("pretrained")
    if isinstance(backbone, str) and backbone:
        return _("Learnt from {n} scans, with the pre-trained backbone {name}.").format(n=len(cases), name=backbone)
    return _("Learnt from {n} scans, from scratch.").format(n=len(cases))


def _score(name: str, entry: Any) -> Score | None:
    if not isinstance(entry, Mapping):
        dice = number(entry)
        return None if dice is None else Score(name, dice)
    dice = number(entry.get("mean_dice"))
    dice = number(entry.get("dice")) if dice is None else dice
    if dice is None:
        return None
    bounds = entry.get("interval")
    low, high = (number(x) for x in bounds) if isinstance(bounds, Sequence) and len(bounds) == 2 else (None, None)
    return Score(name, dice, None if low is None or high is None else (low, high))
