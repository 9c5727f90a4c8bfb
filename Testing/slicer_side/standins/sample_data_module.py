"""A stand-in for Slicer's Sample Data module: what is registered, checked as by the real one, and what a user reads."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import pytest


@dataclass
class SampleDataSource:
    category: str
    sampleName: str
    uris: list[str]
    fileNames: list[str]
    nodeNames: list[str]
    loadFileTypes: list[str]
    loadFiles: list[bool]
    thumbnailFileName: str
    customDownloader: Callable[[Any], list[Any]]

    @property
    def button(self) -> str:
        """What the button says: `sampleDescription`, which is the sample's name unless it is set afterwards."""
        return self.sampleName

    def __post_init__(self) -> None:
        lists = (self.uris, self.fileNames, self.nodeNames, self.loadFileTypes, self.loadFiles)
        if len({len(values) for values in lists}) != 1:
            raise ValueError("All fields of sample data source must have the same length")


def install(monkeypatch: pytest.MonkeyPatch, *, categories_have_titles: bool) -> tuple[list[Any], dict[str, str]]:
    """Put the module in place; Slicer 5.10 knows no titles of categories. Returns what will be registered."""
    sources: list[SampleDataSource] = []
    titles: dict[str, str] = {}

    class SampleDataLogic:
        @staticmethod
        def registerCustomSampleDataSource(**fields: Any) -> None:
            sources.append(SampleDataSource(**fields))

    if categories_have_titles:
        SampleDataLogic.registerCustomSampleDataCategory = staticmethod(titles.__setitem__)  # type: ignore[attr-defined]
    module: Any = ModuleType("SampleData")
    module.SampleDataLogic = SampleDataLogic
    monkeypatch.setitem(sys.modules, "SampleData", module)
    return sources, titles
