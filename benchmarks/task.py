"""What a method gets, and what it gives back: one row of the benchmark before it is scored."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from data_set import DataSet, read_data_set


@dataclass(frozen=True, kw_only=True)
class Task:
    """One method on one set with a few labels.

    Attributes:
        set_folder: of the data set.
        labels: how many scans are labeled.
        seed: of the split and of everything random.
        method: a name in `methods.METHODS`.
        minutes: for training, reading and preparing included.
        device: cpu, cuda or mps.
        threads: that the method may compute with.
        cores: that its process is tied to; none: any.
        labeled: the scans to train on.
        pool: the scans whose images may be used, too; `labeled` among them.
        test: the scans to segment.
        work: an empty folder for whatever the method writes.
        settings: fields of the method's configuration to use instead of its own.
    """

    set_folder: str
    labels: int
    seed: int
    method: str
    minutes: float
    device: str
    threads: int
    labeled: tuple[str, ...]
    pool: tuple[str, ...]
    test: tuple[str, ...]
    work: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    cores: tuple[int, ...] = ()

    @property
    def data(self) -> DataSet:
        return read_data_set(Path(self.set_folder))

    @property
    def predictions(self) -> Path:
        """Where a method writes `NAME.nii.gz` for each test scan, with the values of the labels."""
        return Path(self.work) / "predictions"

    @property
    def test_images(self) -> list[Path]:
        return [self.data.image(name) for name in self.test]

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self)), encoding="utf-8")

    @staticmethod
    def read(path: Path) -> Task:
        content = json.loads(path.read_text(encoding="utf-8"))
        for name in ("labeled", "pool", "test", "cores"):
            content[name] = tuple(content[name])
        return Task(**content)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a method fared, beside its predictions.

    Attributes:
        seconds: until the model was ready, reading and preparing included.
        segment_seconds: for all test scans together, reading and writing included.
        steps: training steps; None where there are none.
        peak_device_mb: GPU memory, where a child process used it; None: this process did, or there is no GPU.
    """

    seconds: float
    segment_seconds: float
    steps: int | None = None
    peak_device_mb: float | None = None
