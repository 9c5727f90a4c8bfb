"""The catalog entry, the older .s4ext and the root CMakeLists.txt agree, and keep the index's own rules."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
from cmake_text import MODULE, REPOSITORY, called, variables
from PIL import Image
from tracked import tracked_files

import glmae

ROOT = REPOSITORY / "CMakeLists.txt"
META = {name: values[0] for name, values in variables(ROOT).items()}
ENTRY = json.loads((REPOSITORY / "GLMAE.json").read_text(encoding="utf-8"))
S4EXT = dict(
    re.fullmatch(r"(\w+)\s*(.*)", line).groups()  # type: ignore[union-attr]
    for line in (REPOSITORY / "GLMAE.s4ext").read_text(encoding="utf-8").splitlines()
    if line and not line.startswith("#")
)
NAME = "GLMAE"


def test_the_schema_of_catalog_entries() -> None:
    """slicer-extension-catalog-entry-schema-v1.0.1: these keys, these types, no others."""
    types = {
        "$schema": str,
        "build_dependencies": list,
        "build_subdirectory": str,
        "category": str,
        "scm_revision": str,
        "scm_url": str,
        "tier": int,
    }
    assert {key: type(value) for key, value in ENTRY.items()} == types
    assert ENTRY["$schema"] == (
        "https://raw.githubusercontent.com/Slicer/Slicer/main/Schemas/"
        "slicer-extension-catalog-entry-schema-v1.0.1.json#"
    )
    assert 1 <= ENTRY["tier"] <= 5
    assert ENTRY["category"] == "Segmentation"


def test_names() -> None:
    assert called(ROOT, "project") == [NAME]
    assert not NAME.lower().startswith("slicer")
    assert urlsplit(ENTRY["scm_url"]).scheme == "https"
    assert Path(urlsplit(ENTRY["scm_url"]).path).name.startswith("Slicer")


def test_the_index_finds_the_name_the_icon_and_a_screenshot() -> None:
    """The index reads CMakeLists.txt with these expressions, not with CMake."""
    text = ROOT.read_text(encoding="utf-8")
    assert re.findall(r"project\s*\(\s*([^\s\)\n\r]+)", text)[0] == NAME == (REPOSITORY / "GLMAE.json").stem
    assert re.findall(r'set\s*\(EXTENSION_ICONURL\s*"([^"]+)"[ ]*\)', text) == [META["EXTENSION_ICONURL"]]
    assert re.findall(r'set\s*\(EXTENSION_SCREENSHOTURLS\s*"([^"]+)"\)', text) == [META["EXTENSION_SCREENSHOTURLS"]]
    assert (REPOSITORY / "LICENSE.txt").is_file()


def test_the_clone_is_small(tmp_path: Path) -> None:
    """The index refuses 100 MB; a clone holds the files, and what a server sends of their history."""
    files = sum(path.stat().st_size for path in tracked_files())
    clone = tmp_path / "clone"
    words = ["--quiet", "--no-local", "--no-checkout", "--single-branch"]
    subprocess.run(["git", "clone", *words, REPOSITORY, clone], check=True, capture_output=True)
    # Packed anew, as a server does: the packing of the copy at hand depends on its way here.
    subprocess.run(["git", "repack", "-a", "-d", "-F", "--quiet"], check=True, capture_output=True, cwd=clone)
    history = sum(path.stat().st_size for path in clone.rglob("*") if path.is_file())
    assert files > 1e6
    assert history > 1e6
    assert files + history < 50e6


def test_line_ends_do_not_depend_on_the_computer() -> None:
    """On Windows git would write CRLF into the files of a clone."""
    asked = subprocess.run(
        ["git", "check-attr", "eol", "text", "--", "README.md", "Resources/Screenshots/overview.png"],
        capture_output=True,
        encoding="utf-8",
        check=True,
        cwd=REPOSITORY,
    )
    assert asked.stdout.splitlines() == [
        "README.md: eol: lf",
        "README.md: text: auto",
        "Resources/Screenshots/overview.png: eol: lf",
        "Resources/Screenshots/overview.png: text: unset",
    ]


def test_every_text_has_unix_line_ends() -> None:
    binary = {".png", ".gz", ".safetensors", ".dcm"}
    texts = [path for path in tracked_files() if path.suffix not in binary]
    assert len(texts) > 100
    assert [path.name for path in texts if b"\r" in path.read_bytes()] == []


def test_the_topic_that_the_index_asks_for_is_on_the_release_list() -> None:
    """A topic is set on the forge, not in a file: the list of what to do for a release has to name it."""
    assert "`3d-slicer-extension`" in (REPOSITORY / "CONTRIBUTING.md").read_text(encoding="utf-8")


def test_citation() -> None:
    text = (REPOSITORY / "CITATION.cff").read_text(encoding="utf-8")
    fields = dict(re.findall(r'(?m)^([\w-]+): "?([^"\n]+)"?$', text))
    assert fields["cff-version"] == "1.2.0"
    assert fields["version"] == glmae.__version__
    assert fields["license"] == "Apache-2.0"
    assert fields["repository-code"] == META["EXTENSION_HOMEPAGE"]
    assert {"title", "message", "type"} <= set(fields)
    assert re.search(r"(?m)^authors:\n  - ", text)
    assert "2306.08913" in text


def test_the_version_is_written_in_one_place() -> None:
    """glmae/__init__.py has it; what must repeat it is compared here, and nothing else repeats it."""
    assert re.fullmatch(r"\d+\.\d+\.\d+", glmae.__version__)
    project = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
    assert 'dynamic = ["version"]' in project
    assert 'version = { attr = "glmae.__version__" }' in project
    assert not re.search(r'(?m)^version = "', project)
    changes = (REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8")
    newest = re.search(r"(?m)^## ([\d.]+)", changes)
    assert newest is not None
    assert newest[1] == glmae.__version__


def test_the_three_descriptions_agree() -> None:
    assert S4EXT["scm"] == "git"
    assert S4EXT["scmurl"] == ENTRY["scm_url"] == META["EXTENSION_HOMEPAGE"]
    assert S4EXT["scmrevision"] == ENTRY["scm_revision"]
    # None, in the words of each: the engine's packages are not installed into Slicer.
    assert (S4EXT["depends"], ENTRY["build_dependencies"], META["EXTENSION_DEPENDS"]) == ("NA", [], "NA")
    assert S4EXT["build_subdirectory"] == ENTRY["build_subdirectory"] == "."
    assert S4EXT["homepage"] == META["EXTENSION_HOMEPAGE"] == "https://github.com/SlicerGLMAE/SlicerGLMAE"
    assert S4EXT["contributors"] == META["EXTENSION_CONTRIBUTORS"]
    assert re.fullmatch(r"[^()]+ \([^()]+\)", META["EXTENSION_CONTRIBUTORS"])  # Name (Organization)
    assert S4EXT["category"] == ENTRY["category"]
    assert S4EXT["iconurl"] == META["EXTENSION_ICONURL"]
    assert S4EXT["tier"] == str(ENTRY["tier"])
    assert S4EXT["description"] == META["EXTENSION_DESCRIPTION"]
    assert S4EXT["screenshoturls"] == META["EXTENSION_SCREENSHOTURLS"]


def test_cmake_calls_that_slicer_needs() -> None:
    assert called(ROOT, "find_package") == ["Slicer REQUIRED"]
    assert called(ROOT, "include") == [
        "${Slicer_USE_FILE}",
        "${Slicer_EXTENSION_GENERATE_CONFIG}",
        "${Slicer_EXTENSION_CPACK}",
    ]
    assert called(ROOT, "add_subdirectory") == [MODULE.name]


def test_image_urls_lead_to_images_of_this_repository() -> None:
    prefix = f"https://raw.githubusercontent.com/SlicerGLMAE/SlicerGLMAE/{ENTRY['scm_revision']}/"
    urls = [META["EXTENSION_ICONURL"], *META["EXTENSION_SCREENSHOTURLS"].split()]
    for url in urls:
        assert url.startswith(prefix)
        with Image.open(REPOSITORY / url.removeprefix(prefix)) as image:
            image.verify()


def test_the_icon() -> None:
    with Image.open(MODULE / "Resources/Icons/GLMAESegmentation.png") as image:
        assert (image.format, image.size) == ("PNG", (128, 128))
        pixels = np.asarray(image.convert("RGBA").resize((16, 16))).reshape(-1, 4)
    # Recognizable at 16 px: the structure (orange), shown and masked patches are still told apart.
    red, _, blue = pixels[pixels[:, 3] > 200, :3].T
    orange = ((red > 200) & (blue < 110)).sum()
    light = ((blue > 150) & (red < 160)).sum()
    dark = ((red < 90) & (blue < 120)).sum()
    assert orange > 25
    assert light > 40
    assert dark > 8


@pytest.mark.parametrize(
    "path",
    ["CMakeLists.txt", "GLMAE.json", "GLMAE.s4ext", "LICENSE.txt", "GLMAESegmentation/CMakeLists.txt"],
)
def test_line_endings(path: str) -> None:
    content = (REPOSITORY / path).read_bytes()
    assert b"\r" not in content
    assert content.endswith(b"\n")


def test_license_is_the_whole_apache_license() -> None:
    text = " ".join((REPOSITORY / "LICENSE.txt").read_text(encoding="utf-8").split())
    assert text.startswith("Apache License Version 2.0, January 2004 http://www.apache.org/licenses/")
    for number, heading in enumerate(
        [
            "Definitions.",
            "Grant of Copyright License.",
            "Grant of Patent License.",
            "Redistribution.",
            "Submission of Contributions.",
            "Trademarks.",
            "Disclaimer of Warranty.",
            "Limitation of Liability.",
            "Accepting Warranty or Additional Liability.",
        ],
        start=1,
    ):
        assert f" {number}. {heading}" in text
    assert "END OF TERMS AND CONDITIONS APPENDIX" in text
    assert len(text.split()) == 1581
