"""The documentation does what it says: its `sh` blocks run on the bundled scans, its links lead somewhere.

In a block only lines that begin with `glmae` or `python -m glmae...` may stand. `--minutes` becomes one step, after a
short fit of the head. Words in capitals are folders; each page starts with the same ones. A JSON block after
`<!-- file: PATH -->` is written there.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import re
import shlex
import shutil
from pathlib import Path
from xml.etree import ElementTree

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
    shutil.copytree(SAMPLES, tmp_path / SAMPLES.relative_to(REPOSITORY))  # as in a clone
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(words: list[str], monkeypatch: pytest.MonkeyPatch) -> int:
    if words[0] == "glmae":
        if "--minutes" in words:
            at = words.index("--minutes")
            words = [*words[:at], "--steps", "1", *words[at + 2 :]]
        if words[1] == "finetune" and "--finish" not in words:
            words = [*words, "--setting", "start_steps=20", "--setting", "start_crops=1"]
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
    words = ["glmae", "finetune", "--images", "SCANS", "--labels", "LABELS", "--out", "SENT", "--steps", "0"]
    assert run(words, pytest.MonkeyPatch()) == 0
    return folder / "SENT"


def test_there_are_commands_to_run() -> None:
    wanted = {"command_line", "label_well", "read_the_score", "partial_labels", "share_a_model", "pretraining"}
    assert wanted | {"troubleshooting"} <= {page.stem for page in WITH_COMMANDS}


BESIDE_PROGRAMS = [REPOSITORY / folder / "README.md" for folder in ("benchmarks", "research")]
EVERY_PAGE = [*REPOSITORY.glob("*.md"), *PAGES[1:], *BESIDE_PROGRAMS]


def code(page: Path) -> list[str]:
    """The lines of code of a page, in blocks of any language and within sentences."""
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    fenced = re.findall(r"(?ms)^```\w*\n(.*?)^```$", text)
    within = re.findall(r"(?<!`)`([^`]+)`(?!`)", re.sub(r"(?ms)^```.*?^```$", "", text))
    return [" ".join(line.split()) for line in [*(line for block in fenced for line in block.splitlines()), *within]]


def options_of(command: str) -> set[str]:
    """What a command of glmae offers, by its own help."""
    with pytest.raises(SystemExit), contextlib.redirect_stdout(io.StringIO()) as text:
        main([command, "--help"])
    return set(re.findall(r"--[a-z][a-z-]*", text.getvalue()))


@pytest.mark.parametrize("page", EVERY_PAGE, ids=lambda page: page.stem)
def test_what_is_not_run_is_spelled_as_the_programs_are(page: Path) -> None:
    """Also in blocks that need a cluster, a GPU or a data set: commands, options, scripts and targets exist."""
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    scripts = "".join(path.read_text(encoding="utf-8") for path in (REPOSITORY / "benchmarks").glob("*.py"))
    for line in code(page):
        for command, rest in re.findall(r"\bglmae (?:-m )?([a-z][a-z-]+)\b([^|\n]*)", line):
            used = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", rest))
            assert used <= options_of(command), line
        for script, rest in re.findall(r"\bpython (\S+\.py)([^\n]*)", line):
            assert (REPOSITORY / script).is_file(), line
            for option in re.findall(r"(?<![\w-])--[a-z][a-z-]*", rest):
                assert f'"{option}"' in scripts, line
        for module in re.findall(r"\bpython -m (glmae[\w.]*)", line):
            assert importlib.util.find_spec(module), line
        for target in re.findall(r"^make ([a-z]+)", line):
            assert re.search(rf"(?m)^{target}:", makefile), line


def test_what_is_not_run_is_looked_at() -> None:
    lines = [line for page in EVERY_PAGE for line in code(page)]
    assert sum("glmae " in line for line in lines) > 30
    assert sum("python benchmarks/" in line for line in lines) > 8
    assert len(options_of("finetune")) > 12


def test_the_tutorial_names_what_is_on_the_screen() -> None:
    """Each bold word of the part in Slicer is a text of the panel, a sample data set, or an extension."""
    text = (REPOSITORY / "docs" / "tutorial.md").read_text(encoding="utf-8")
    named = {" ".join(words.split()) for words in re.findall(r"\*\*([^*]+)\*\*", text)}
    layout = ElementTree.parse(MODULE / "Resources" / "UI" / "GLMAESegmentation.ui")
    shown = {element.text for element in layout.iter("string")}
    sources = (MODULE / "GLMAESegmentationLib" / "messages.py").read_text(encoding="utf-8")
    assert len(named) > 12
    assert {name for name in named - shown - {"GLMAE", "PyTorch"} if f'_("{name}")' not in sources} == set()


def test_every_picture_has_a_program_that_draws_it() -> None:
    """The name of each picture of the pages, or its beginning, stands in a script or test that writes it."""
    folders = ("development", "benchmarks", "Resources", "Testing/slicer_side")
    programs = "".join(
        path.read_text(encoding="utf-8") for folder in folders for path in (REPOSITORY / folder).glob("*.py")
    )
    linked = {
        (page.parent / target).resolve()
        for page in EVERY_PAGE
        for target in re.findall(r"!\[[^\]]*\]\(([^)\s]+)\)", page.read_text(encoding="utf-8"))
    }
    kept = set((REPOSITORY / "Resources").rglob("*.png")) | set((MODULE / "Resources" / "Icons").glob("*.png"))
    assert len(linked) >= 5
    drawn = re.findall(r"([\w-]+)(?:\{[^}]*\})?\.png", programs)
    assert {path.name for path in linked | kept if not any(path.stem.startswith(name) for name in drawn)} == set()


@pytest.mark.parametrize("page", EVERY_PAGE, ids=lambda page: page.name)
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


def test_the_license_of_the_weights_is_said_where_the_extension_is_described() -> None:
    """Who trains from the shipped backbone and passes the model on is bound by it."""
    notice = (MODULE / "Resources" / "Models" / "tiny" / "LICENSE.md").read_text(encoding="utf-8")
    license_name = re.search(r"\[(CC [^]]+)\]", notice)
    assert license_name is not None
    for page in ("README.md", "docs/share_a_model.md", "CMakeLists.txt", "GLMAE.s4ext"):
        text = " ".join((REPOSITORY / page).read_text(encoding="utf-8").split())
        sentences = [part for part in re.split(r"(?<=[.:]) ", text) if license_name[1] in part]
        assert any("train" in part for part in sentences), page


def test_it_is_said_what_this_is_not() -> None:
    for page in ("README.md", "docs/privacy_and_limits.md"):
        assert "not a medical device" in (REPOSITORY / page).read_text(encoding="utf-8").lower()
