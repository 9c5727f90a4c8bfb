"""The model that the panel segments with, and what can be done with it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from glmae.errors import GLMAEError
from glmae.scans.classes import ClassTable

from ..messages import say
from ..scene.choices import PanelChoices
from .library import ModelLibrary
from .scores import Score, advice, license_note, model_scores, origin


class ChosenModel:
    """The chosen one of the models on this computer.

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
        self._structures: frozenset[str] = frozenset()
        self._channels = 0

    @property
    def name(self) -> str:
        """Its name; "" when none is chosen or it is gone."""
        name = self._choices().model
        return name if name in self._library.names else ""

    @property
    def classes(self) -> list[ClassTable]:
        """Its classes, as a table; none without a model."""
        return [self._library.card(self.name).classes] if self.name else []

    def start(self, structures: Collection[str], channels: Collection[int]) -> str:
        """Its name, as of the last `read`, if a training can and shall go on from it; else "".

        Args:
            structures: names of those that are labeled; all of the model's must be among them.
            channels: numbers of channels of the scans.
        """
        fits = self._structures and self._structures <= set(structures) and set(channels) == {self._channels}
        return self.name if fits and self._choices().go_on else ""

    def choose(self, name: str) -> None:
        """Take another model; "" for none."""
        self._choices().model = name

    def read(self) -> None:
        """Read the scores, once for each model."""
        if self.name == self._read:
            return
        self._read, self.scores, self.advice, self.origin = self.name, [], "", ""
        self._structures, self._channels = frozenset(), 0
        if self.name:
            with suppress(GLMAEError):  # a damaged model is reported when it is used
                found = self._library.card(self.name)
                card, backbone = found.content, found.content["backbone"]
                self.scores, self.advice, self.origin = model_scores(card), advice(card), origin(card)
                self._structures = frozenset(found.classes.names)
                self._channels = backbone.get("channels", 0) if isinstance(backbone, Mapping) else 0

    def import_file(self, file: Any) -> str:
        """Add a model from a file and choose it; what was done, in a sentence."""
        self.choose(self._library.import_model(Path(file)))
        return say("model imported", name=self.name)

    # Another model may have been chosen while a dialog was open: each request names the one that it is about.

    def export(self, request: tuple[str, str]) -> str:
        """Write the model of a name to a file; what was done, in a sentence."""
        name, file = request
        self._library.export_model(name, Path(file))
        text = say("model exported", name=name, file=file)
        return f"{text} {license_note(self._library.card(name).content)}".strip()

    def rename(self, request: tuple[str, str]) -> None:
        """Give the model of a name another one."""
        name, wanted = request
        chosen = self.name == name
        new = self._library.rename(name, wanted)
        if chosen:
            self.choose(new)

    def delete(self, name: str) -> None:
        """Remove the model of a name from this computer."""
        chosen = self.name == name
        self._library.delete(name)
        if chosen:
            self.choose("")
