"""The table of messages: every key that the code names is there, every message is used, and its places are filled."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from GLMAESegmentationLib.messages import ENDINGS, FAILURES, MESSAGES, failure_texts, say

# The name of a button, or several: "press Check my set-up under Advanced, then Repair."
PRESS = r"(?:[Pp]ress|then) ([A-Z][a-z]+(?: [a-z-]+)*?)(?= again| to | under | and |[.,;:])"
UI = Path(__file__).parents[2] / "GLMAESegmentation" / "Resources" / "UI" / "GLMAESegmentation.ui"
LIBRARY = Path(__file__).parents[2] / "GLMAESegmentation" / "GLMAESegmentationLib"


def called() -> list[tuple[str, set[str], bool]]:
    """Every call of `say`: its key as a pattern, the values that it gives, and whether it may give more."""
    found = []
    for path in LIBRARY.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "say":
                given = {keyword.arg for keyword in node.keywords}
                for pattern in patterns(node.args[0]):
                    found.append((pattern, {name for name in given if name is not None}, None in given))
    return found


def patterns(key: ast.expr) -> list[str]:
    if isinstance(key, ast.IfExp):
        return patterns(key.body) + patterns(key.orelse)
    if isinstance(key, ast.JoinedStr):
        return ["".join(re.escape(p.value) if isinstance(p, ast.Constant) else ".*" for p in key.values)]
    return [re.escape(key.value)] if isinstance(key, ast.Constant) else [".*"]


def test_every_key_is_there_and_every_message_is_used() -> None:
    keys = [pattern for pattern, _given, _more in called() if pattern != ".*"]
    assert [pattern for pattern in keys if not any(re.fullmatch(pattern, key) for key in MESSAGES)] == []
    named = (LIBRARY / "panel" / "section_sentences.py").read_text(encoding="utf-8")
    unused = [key for key in MESSAGES if not any(re.fullmatch(p, key) for p in keys) and f'"{key}"' not in named]
    assert unused == []


def test_every_place_in_a_message_gets_its_value() -> None:
    for pattern, given, more in called():
        for key, texts in MESSAGES.items():
            if ".*" not in pattern and not more and re.fullmatch(pattern, key):
                for text in (texts,) if isinstance(texts, str) else texts:
                    assert set(re.findall(r"{(\w+)", text)) <= given, key


def test_what_a_message_says_to_press_is_in_the_panel() -> None:
    strings = {element.text for element in ElementTree.parse(UI).getroot().iter("string")}
    said = [*MESSAGES.values(), *FAILURES.values(), *ENDINGS.values()]
    texts = [text for one in said for text in ((one,) if isinstance(one, str) else one)]
    buttons = {name for text in texts for name in re.findall(PRESS, text)}
    assert len(buttons) >= 8
    assert buttons - strings == {"Repair"}  # the word on Install then
    places = {name for text in texts for name in re.findall(r"Advanced > (\w+ \(\w+\)|\w+ (?:on|with)\b)", text)}
    assert places == {"Region (ROI)", "Compute on", "Compute with"}
    assert {f"{name}:" for name in places} <= strings
    assert {"Processor (CPU)", "Entire scan", "Own environment", "Use as training label"} <= strings


def test_one_and_many() -> None:
    assert (say("segment", n=1, scan="A"), say("segment", n=2, scan="A")) == ("Segments A.", "Segments 2 scans.")


@pytest.mark.parametrize("key", FAILURES)
def test_no_failure_keeps_an_empty_place(key: str) -> None:
    assert "{" not in "".join(failure_texts(key, "what was said"))
