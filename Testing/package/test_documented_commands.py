"""The documentation does what it says: its `sh` blocks run on the bundled scans, its links lead somewhere.

In a block only lines that begin with `glmae` or `python -m glmae...` may stand. `--minutes` becomes one step. Words in
capitals are folders; each page starts with the same ones. A JSON block after `<!-- file: PATH -->` is written there.
"""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest
from cmake_text import MODULE, REPOSITORY

from glmae import set_up_check
from glmae.cli import main

PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
SAMPLES = MODULE / "Resources" / "SampleScans"
BLOCK = re.compile(r"(?ms)(?:^<!-- file: (?P<file>\S+) -->\n)?^```(?P<language>sh|json)\n(?P<text>.*?)^```$")


def blocks(page: Path) -> list[tuple[str | None, str, str]]:
    """File (for JSON), language and text of each block that is run or written."""
    return [(m["file"], m["language"], m["text"]) for m in BLOCK.finditer(page.read_text(encoding="utf-8"))]


def commands(text: str) -> list[list[str]]:
    """The words of each command of a block."""
    joined = text.replace("\\\n", " ")
    return [words for line in joined.splitlines() if (words := shlex.split(line, comments=True))]


WITH_COMMANDS = [page for page in PAGES if any(language == "sh" for _, language, _ in blocks(page))]


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """SCANS and LABELS to train on, OTHER_SCANS and OTHER_LABELS, and a MODEL where a page begins with one."""
    cases = {"": ("hippocampus_039", "hippocampus_207"), "OTHER_": ("hippocampus_003",)}
    for prefix, names in cases.items():
        for kind, folder in (("images", "SCANS"), ("labels", "LABELS")):
            (tmp_path / f"{prefix}{folder}").mkdir()
            for name in names:
                shutil.copy(SAMPLES / kind / f"{name}.nii.gz", tmp_path / f"{prefix}{folder}")
    for folder in ("LABELS", "OTHER_LABELS"):
        shutil.copy(SAMPLES / "labels" / "classes.json", tmp_path / folder)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(words: list[str], monkeypatch: pytest.MonkeyPatch) -> int:
    if words[0] == "glmae":
        if "--minutes" in words:
            at = words.index("--minutes")
            words = [*words[:at], "--steps", "1", *words[at + 2 :]]
        takes_device = words[1] in ("finetune", "segment", "pretrain")
        return main([*words[1:], *(["--device", "cpu"] if takes_device else [])])
    assert words[:3] == ["python", "-m", "glmae.set_up_check"], f"not a command of this project: {words}"
    # The devices themselves are tried in Testing/engine/test_set_up_check.py.
    monkeypatch.setattr(set_up_check, "tried", lambda device: {"works": True, "message": "tried elsewhere"})
    return set_up_check.main(words[3:])


@pytest.mark.parametrize("page", WITH_COMMANDS, ids=lambda page: page.stem)
def test_commands_run(page: Path, folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for file, language, text in blocks(page):
        if language == "json":
            if file:
                (folders / file).write_text(text, encoding="utf-8")
            continue
        for words in commands(text):
            if "MODEL" in words and words[1] == "segment" and not (folders / "MODEL").exists():
                shutil.copytree(received_model(folders), folders / "MODEL")
            assert run(words, monkeypatch) == 0, words


def received_model(folder: Path) -> Path:
    """A page may begin with a model that somebody else has sent."""
    words = ["finetune", "--images", "SCANS", "--labels", "LABELS", "--out", "SENT", "--steps", "1", "--device", "cpu"]
    assert main(words) == 0
    return folder / "SENT"


def test_there_are_commands_to_run() -> None:
    assert {"README", "tutorial", "partial_labels", "share_a_model", "pretrain_your_own", "troubleshooting"} <= {
        page.stem for page in WITH_COMMANDS
    }


@pytest.mark.parametrize("page", [*PAGES, *REPOSITORY.glob("*.md")], ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"!?\[[^\]]*\]\(([^)\s]+)\)", text):
        if target.startswith(("https://", "mailto:")):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{page.name}: {target}"
        if anchor:
            headings = re.findall(r"(?m)^#+ (.+)$", file.read_text(encoding="utf-8"))
            anchors = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
            assert anchor in anchors, f"{page.name}: {target}"


def test_every_page_is_in_the_index() -> None:
    index = (REPOSITORY / "docs" / "index.md").read_text(encoding="utf-8")
    pages = {page.name for page in (REPOSITORY / "docs").glob("*.md")} - {"index.md"}
    assert {page for page in pages if f"({page}" not in index} == set()


def test_it_is_said_what_this_is_not() -> None:
    for page in ("README.md", "docs/privacy_and_limits.md"):
        assert "not a medical device" in (REPOSITORY / page).read_text(encoding="utf-8").lower()
