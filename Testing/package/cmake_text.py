"""What the two CMakeLists.txt say, read as text: CMake itself needs a Slicer build tree."""

from __future__ import annotations

import re
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
MODULE = REPOSITORY / "GLMAESegmentation"


def variables(path: Path) -> dict[str, list[str]]:
    """Every `set(NAME value ...)` of a CMakeLists.txt, comments removed, `${NAME}` of earlier ones replaced."""
    text = re.sub(r"(?m)#.*$", "", path.read_text(encoding="utf-8"))
    found: dict[str, list[str]] = {}
    for name, body in re.findall(r"\bset\(\s*(\w+)((?:\s+(?:\"[^\"]*\"|[^\s()]+))*)\s*\)", text):
        values = [quoted or plain for quoted, plain in re.findall(r"\"([^\"]*)\"|([^\s()]+)", body)]
        found[name] = [_expanded(value, found) for value in values]
    return found


def called(path: Path, command: str) -> list[str]:
    """The arguments of every call of `command`, as text."""
    text = re.sub(r"(?m)#.*$", "", path.read_text(encoding="utf-8"))
    return [re.sub(r"\s+", " ", body).strip() for body in re.findall(rf"\b{command}\(([^()]*)\)", text)]


def _expanded(value: str, known: dict[str, list[str]]) -> str:
    return re.sub(r"\$\{(\w+)\}", lambda match: " ".join(known.get(match[1], [match[0]])), value)
