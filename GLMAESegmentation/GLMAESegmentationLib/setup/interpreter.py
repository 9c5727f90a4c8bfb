"""Which Python the engine runs in, as the user chose, and what another one than its own lacks."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from glmae.errors import StorageError
from glmae.files import write_json

from ..messages import say
from .packages import Package, described, lacking

# own: the environment that Install makes. slicers: Slicer's Python. other: of the user's own making.
Kind = Literal["own", "slicers", "other"]
KINDS: tuple[Kind, ...] = ("own", "slicers", "other")
OLDEST = (3, 10)


@dataclass(frozen=True)
class Choice:
    """What the user chose.

    Attributes:
        kind: of Python; None: not chosen.
        python: the path of another interpreter; "" for none.
        lacks: what that one lacks; "" for nothing.
    """

    kind: Kind | None = None
    python: str = ""
    lacks: str = ""

    @classmethod
    def read(cls, file: Path) -> Choice:
        """The choice in a file; none where there is no such file or it is damaged."""
        with suppress(OSError, ValueError, KeyError, TypeError):
            content = json.loads(file.read_text(encoding="utf-8"))
            if content["kind"] in KINDS:
                return cls(content["kind"], str(content["python"]), str(content["lacks"]))
        return cls()

    def write(self, file: Path) -> None:
        """Keep it for the next time; where that cannot be written it holds until Slicer is closed."""
        with suppress(StorageError):
            write_json(file, asdict(self))


def lacks(answer: str) -> str:
    """What an interpreter lacks, from what `setup.packages` printed in it."""
    try:
        content = json.loads(answer)
        version = tuple(content["python"])
        packages = [Package(**package) for package in content["packages"]]
    except (ValueError, KeyError, TypeError):
        return say("python none")
    if version < OLDEST:
        found, needed = (".".join(map(str, numbers)) for numbers in (version, OLDEST))
        return say("python old", found=found, needed=needed)
    return described(lacking(packages))
