"""How good a model is, as its card says: Dice of each class on held-out scans."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..engine.failures import for_the_panel, sentence
from ..engine.progress import number
from ..messages import say


@dataclass(frozen=True)
class Score:
    """A mean Dice, 0-1, over held-out scans, with its standard deviation where there are several."""

    name: str
    dice: float
    sd: float | None = None

    @property
    def text(self) -> str:
        """As it is shown."""
        return f"{self.dice:.2f}" if self.sd is None else f"{self.dice:.2f} ± {self.sd:.2f}"


def model_scores(card: Mapping[str, Any]) -> list[Score]:
    """The mean over all classes first, then each class; empty when the model was not scored. Unknown keys are ignored.

    Args:
        card: the content of a model.json; `scores` is null or `{"mean_dice", "sd", "classes": {NAME: ...}, ...}`.
    """
    scores = card.get("scores")
    if not isinstance(scores, Mapping):
        return []
    found = [_score(say("all structures"), scores)]
    classes = scores.get("classes")
    if isinstance(classes, Mapping):
        found += [_score(str(name), entry) for name, entry in classes.items()]
    return [score for score in found if score is not None]


def advice(card: Mapping[str, Any]) -> str:
    """Whether the training failed, and if the model was not scored, that it was not."""
    scores = card.get("scores")
    said = scores if isinstance(scores, Mapping) else {}
    sentences = [
        sentence(for_the_panel(text)) for key in ("failure", "not_checked") if isinstance(text := said.get(key), str)
    ]
    if number(said.get("mean_dice")) is None:
        sentences.append(say("not scored"))
    return " ".join(sentences)


def license_note(card: Mapping[str, Any]) -> str:
    """What binds whoever shares a model: it started from weights that others share under a license."""
    if card.get("from"):
        return say("license from")
    return say("license") if card.get("pretrained") else ""


def origin(card: Mapping[str, Any]) -> str:
    """What a model was made of: how many scans, and what it started from; "" where the card does not say."""
    cases = card.get("training_cases")
    if not isinstance(cases, Sequence):
        return ""
    if card.get("from"):
        return say("origin from", n=len(cases))
    backbone = card.get("pretrained")
    if isinstance(backbone, str) and backbone:
        return say("origin", n=len(cases), name=backbone)
    return say("origin scratch", n=len(cases))


def _score(name: str, entry: Any) -> Score | None:
    if not isinstance(entry, Mapping):
        return None
    dice = number(entry.get("mean_dice", entry.get("dice")))
    return None if dice is None else Score(name, dice, number(entry.get("sd")))
