"""The model that the panel segments with, and what can be done with it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from glmae.errors import GLMAEError
from glmae.scans.classes import ClassTable

from ..scene.choices import PanelChoices
from ..translation import tr as _
from .library import ModelLibrary
from .scores import Score, advice, model_scores, origin


class ChosenModel:
    """The chosen one of the models on this computer.

    Args:
        library: the models.
        choices: what the user chose, in the scene as it is now.

    Attributes:
        scores: of the chosen model, as of the last `read`.
        advice: whether more labels would help it.
        origin: what it was made of.
    """

    def __init__(self, library: ModelLibrary, choices: Callable[[], PanelChoices]) -> None:
        self._library, self._choices = library, choices
        self._read = ""
        self.scores: list[Score] = []
        self.advice, self.origin = "", ""

    @property
    def name(self) -> str:
        """Its name; "" when none is chosen or it is gone."""
        name = self._choices().model
        return name if name in self._library.names else ""

    @property
    def classes(self) -> list[ClassTable]:
        """Its classes, as a table; none without a model."""
        return [self._library.card(self.name).classes] if self.name else []

    def choose(self, name: str) -> None:
        """Take another model; "" for none."""
        self._choices().model = name

    def read(self) -> None:
        """Read the scores, once for each model."""
        if self.name == self._read:
            return
        self._read, self.scores, self.advice, self.origin = self.name, [], "", ""
        if self.name:
            with suppress(GLMAEError):  # a damaged model is reported when it is used
                card = self._library.card(self.name).content
                self.scores, self.advice, self.origin = model_scores(card), advice(card), origin(card)

    def import_file(self, file: Any) -> str:
        """Add a model from a file and choose it; what was done, in a sentence."""
        self.choose(self._library.import_model(Path(file)))
        return _('The model "{name}" is ready to segment with.').format(name=self.name)

    def export(self, file: Any) -> str:
        """Write it to a file; what was done, in a sentence."""
        self._library.export_model(self.name, Path(file))
        return _("The model was written to {file}.").format(file=file)

    def rename(self, name: Any) -> None:
        """Give it another name."""
        self.choose(self._library.rename(self.name, str(name)))

    def delete(self, value: Any) -> None:
        """Remove it from this computer."""
        self._library.delete(self.name)
        self.choose("")
