"""Whatever name a failure is shown with, docs/troubleshooting.md has a line of that name, and no line of another."""

from __future__ import annotations

import re

import pytest
from cmake_text import MODULE, REPOSITORY

from glmae import errors
from GLMAESegmentationLib.messages import ENDINGS, FAILURES
from GLMAESegmentationLib.setup.installation import GOOD

PAGE = (REPOSITORY / "docs" / "troubleshooting.md").read_text(encoding="utf-8")


def rows(heading: str) -> list[list[str]]:
    """The cells of the table under a heading, without its head."""
    section = re.split(r"(?m)^## ", PAGE.split(f"## {heading}\n")[1])[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_every_failure_of_the_panel_has_its_line() -> None:
    shown = {name for name, _cause, _remedy in FAILURES.values()}
    assert len(shown) >= 13
    assert {row[0].strip("*") for row in rows("While working") if row[0]} == shown


def test_every_error_of_the_engine_has_its_line() -> None:
    kinds = {kind.__name__ for kind in errors.GLMAEError.__subclasses__()} | {"MemoryError"}
    assert {name for row in rows("While working") for name in re.findall(r"`(\w+)`", row[1])} == kinds


def test_every_end_of_an_installation_has_its_line() -> None:
    endings = set(ENDINGS) - set(GOOD)
    assert len(endings) >= 9
    assert {row[0] for row in rows("While installing")} == endings


@pytest.mark.parametrize("heading", ["While installing", "While working", "In the set-up report"])
def test_every_line_says_what_happened_and_what_to_do(heading: str) -> None:
    assert rows(heading)
    for row in rows(heading):
        assert len(row[-1]) > 10, row
        assert len(row[-2]) > 10, row


def test_what_the_set_up_report_says_has_its_line() -> None:
    source = "".join(
        (MODULE / "glmae" / name).read_text(encoding="utf-8") for name in ("set_up_check.py", "devices.py")
    )
    phrases = [row[0].strip("`") for row in rows("In the set-up report")]
    assert [phrase for phrase in phrases if phrase not in source] == []
    said = re.findall(r'"message": f?"([A-Za-z ]+)[^"]*"', source) + re.findall(r'return "(no [\w ]+)', source)
    assert len(said) >= 6
    assert [text for text in said if not any(text.strip() in phrase or phrase in text for phrase in phrases)] == []
