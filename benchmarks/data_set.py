"""A data set with its fixed split: `images/`, `labels/`, and `split.json`, which says who may use which scan."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from glmae.errors import RequestError
from glmae.scans.image import image_ending


@dataclass(frozen=True)
class DataSet:
    """One set; scans are called by their names, without folder and ending.

    Attributes:
        name: of its folder.
        folder: holds `images/`, `labels/` and `split.json`.
        seeds: per seed `few_label` (number of labels -> scans), `pool` and `test`.
    """

    name: str
    folder: Path
    seeds: dict[str, Any]

    @property
    def images(self) -> Path:
        return self.folder / "images"

    @property
    def labels(self) -> Path:
        return self.folder / "labels"

    def labeled(self, seed: int, labels: int) -> tuple[str, ...] | None:
        """The scans whose labels a run may use; None where the set has no such run."""
        named = self.seeds.get(f"seed{seed}", {}).get("few_label", {}).get(str(labels))
        return None if named is None else _names(named)

    def pool(self, seed: int) -> tuple[str, ...]:
        """The scans whose images a run may use without their labels; the labeled ones are among them."""
        return _names(self.seeds[f"seed{seed}"]["pool"])

    def test(self, seed: int, count: int = 0) -> tuple[str, ...]:
        """The first `count` scans to score on; 0: all."""
        names = _names(self.seeds[f"seed{seed}"]["test"])
        return names[:count] if count else names

    def has_label(self, name: str) -> bool:
        """Whether somebody labeled this scan; some of a pool have never been labeled."""
        return any(_name(file.name) == name for file in self.labels.iterdir())

    def image(self, name: str) -> Path:
        """The file of a scan, or its folder where it has several channels."""
        folder = self.images / name
        if folder.is_dir():
            return folder
        return next(file for file in self.images.iterdir() if _name(file.name) == name)


def read_data_set(folder: Path) -> DataSet:
    """Open a set.

    Raises:
        RequestError: it has no readable split.json, or a scan is in the pool and in the test of one seed.
    """
    try:
        seeds = json.loads((folder / "split.json").read_text(encoding="utf-8"))["seeds"]
    except (OSError, ValueError, KeyError) as error:
        raise RequestError(f"{folder} has no readable split.json; name the folder of the sets with --data") from error
    data = DataSet(folder.name, folder, seeds)
    for seed, split in seeds.items():
        trained = set(_names(split["pool"])).union(*map(_names, split["few_label"].values()))
        if both := trained & set(_names(split["test"])):
            raise RequestError(f"{folder}: {seed} trains and tests on {sorted(both)[0]}; correct split.json")
    return data


def find_data_sets(data: Path, names: list[str] | None) -> list[DataSet]:
    """The sets called `names` in the folder `data`; None: every folder there that has a split.json."""
    if names is None:
        names = sorted(file.parent.name for file in data.glob("*/split.json"))
    if not names:
        raise RequestError(f"{data} holds no folder with a split.json; name the folder of the sets with --data")
    return [read_data_set(data / name) for name in names]


def _name(file: str) -> str:
    ending = image_ending(Path(file))
    return file if ending is None else file[: -len(ending)]


def _names(files: list[str]) -> tuple[str, ...]:
    return tuple(_name(file) for file in files)
