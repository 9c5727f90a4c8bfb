"""What CMake installs is enough to run: configured and installed against a stand-in for Slicer's CMake interface.

The installed tree is then used without the repository: every import inside it resolves, and real jobs (training,
segmenting, evaluating, the Slicer side on the real MRML scene) open no file that was not shipped.
"""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from cmake_text import MODULE, REPOSITORY, variables

from glmae.segmentation.finetune_config import FinetuneConfig

MOCK = Path(__file__).parent / "slicer_cmake"
LISTED = variables(MODULE / "CMakeLists.txt")
# What starts by itself, and what is there for scripts; everything else must be needed by one of these.
ENTRY_POINTS = ("GLMAESegmentation", "glmae.__main__")
FOR_SCRIPTS = ("GLMAESegmentationLib.scene.segment_classes",)


def cmake() -> str:
    beside = shutil.which("cmake", path=str(Path(sys.executable).parent))
    found = beside or shutil.which("cmake")
    assert found, "CMake is missing; it is in the test dependencies"
    return found


def configure(source: Path, build: Path) -> subprocess.CompletedProcess[str]:
    # Nothing is compiled: any program will do as the build tool, so that none must be installed.
    words = [cmake(), "-S", MOCK, "-B", build, f"-DEXTENSION_SOURCE_DIR={source.as_posix()}"]
    words += ["-DBUILD_TESTING=ON", "-G", "Unix Makefiles", f"-DCMAKE_MAKE_PROGRAM={Path(sys.executable).as_posix()}"]
    return subprocess.run(
        [str(word) for word in words], capture_output=True, text=True, encoding="utf-8", errors="replace", check=False
    )


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("Slicer build")
    done = configure(REPOSITORY, folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def installed(build: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that Slicer puts on Python's path, in a place with spaces and other alphabets."""
    prefix = tmp_path_factory.mktemp("Slicer 5.12 Größe 海馬")
    done = subprocess.run(
        [cmake(), "--install", str(build), "--prefix", str(prefix)], capture_output=True, encoding="utf-8", check=False
    )
    assert done.returncode == 0, done.stderr
    return prefix / "lib" / "GLMAE" / "qt-scripted-modules"


def files_of(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_what_is_listed_is_installed_and_nothing_else(installed: Path) -> None:
    shipped = {name for name in files_of(installed) if "__pycache__" not in name}
    assert shipped == set(LISTED["MODULE_PYTHON_SCRIPTS"]) | set(LISTED["MODULE_PYTHON_RESOURCES"])


def test_slicer_runs_the_modules_own_test(build: Path) -> None:
    done = subprocess.run(
        [shutil.which("ctest", path=str(Path(cmake()).parent)) or "ctest", "-N", "--test-dir", str(build)],
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    assert "py_GLMAESegmentation" in done.stdout


@pytest.mark.parametrize(
    ("listed", "instead", "complaint"),
    [
        ("glmae/devices.py", "glmae/device.py", "there is no file glmae/device.py"),
        ("glmae/devices.py", "glmae/cli.py", "is listed twice"),
        ("  NAME ${MODULE_NAME}\n", "", "NAME is mandatory"),
    ],
)
def test_a_mistake_in_the_lists_ends_the_configuration(
    tmp_path: Path, listed: str, instead: str, complaint: str
) -> None:
    source = tmp_path / "extension"
    shutil.copytree(MODULE, source / MODULE.name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(REPOSITORY / "CMakeLists.txt", source)
    lists = source / MODULE.name / "CMakeLists.txt"
    text = lists.read_text(encoding="utf-8")
    assert listed in text
    lists.write_text(text.replace(listed, instead, 1), encoding="utf-8")
    done = configure(source, tmp_path / "build")
    assert done.returncode != 0
    assert complaint in " ".join(done.stderr.split())


def imports_of(root: Path, name: str, modules: dict[str, Path]) -> set[str]:
    """The modules of the extension that module `name` imports, wherever in the file; unknown ones fail the test."""
    path = modules[name]
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    own = {module.partition(".")[0] for module in modules}
    needed: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names if alias.name.partition(".")[0] in own]
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            origin = ".".join([*base, *filter(None, [node.module])])
            if origin.partition(".")[0] not in own:
                continue
            submodules = [f"{origin}.{alias.name}" for alias in node.names if f"{origin}.{alias.name}" in modules]
            targets = [origin, *submodules]
        else:
            continue
        for target in targets:
            assert target in modules, f"{name} imports {target}, which is not shipped"
            parts = target.split(".")
            needed |= {".".join(parts[:end]) for end in range(1, len(parts) + 1)}
    return needed


def shipped_modules(root: Path) -> dict[str, Path]:
    found = {}
    for path in root.rglob("*.py"):
        parts = path.relative_to(root).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def started_by_name(root: Path, modules: dict[str, Path]) -> set[str]:
    """Modules that are started as `python -m NAME`: their names appear as text in other modules."""
    texts = {name: path.read_text(encoding="utf-8") for name, path in modules.items()}
    return {
        name
        for name in modules
        if "." in name and any(f'"{name}"' in text for other, text in texts.items() if other != name)
    }


def test_every_import_is_shipped_and_every_shipped_module_is_needed(installed: Path) -> None:
    modules = shipped_modules(installed)
    needed = {name: imports_of(installed, name, modules) for name in modules}
    reached: set[str] = set()
    waiting = [*ENTRY_POINTS, *FOR_SCRIPTS, *started_by_name(installed, modules)]
    while waiting:
        name = waiting.pop()
        if name not in reached:
            reached.add(name)
            waiting += [*needed[name], *([name.rpartition(".")[0]] if "." in name else [])]
    assert set(modules) - reached == set()


# Runs in a fresh interpreter: statements, then every file that was opened or looked at below two folders.
WATCHER = """
import json, os, sys
installed, repository, report = sys.argv[1:4]
opened = set()
def watch(event, arguments):
    if event == "open" and isinstance(arguments[0], str):
        opened.add(os.path.abspath(arguments[0]))
sys.addaudithook(watch)
sys.path.insert(0, installed)
"""


def watched(installed: Path, folder: Path, statements: str, extra_path: tuple[Path, ...] = ()) -> set[Path]:
    """Run `statements` with the installed tree alone; the files they opened."""
    report = folder / "opened.json"
    code = (
        WATCHER
        + "".join(f"sys.path.append({str(path)!r})\n" for path in extra_path)
        + f"from pathlib import Path\nINSTALLED, OUT = Path(installed), Path({str(folder)!r})\n{statements}\n"
        + "Path(report).write_text(json.dumps(sorted(opened)), encoding='utf-8')\n"
    )
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-X", "utf8", "-c", code, str(installed), str(REPOSITORY), str(report)],
        capture_output=True,
        text=True,
        encoding="utf-8",
        cwd=folder,
        env=environment,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return {Path(name) for name in json.loads(report.read_text(encoding="utf-8"))}


def outside_of(opened: set[Path], allowed: tuple[Path, ...]) -> set[Path]:
    """What was opened in the repository, apart from the test's own files."""
    virtual = REPOSITORY / ".venv"
    return {
        path
        for path in opened
        if path.is_relative_to(REPOSITORY) and not any(path.is_relative_to(a) for a in (virtual, *allowed))
    }


JOBS = """
from glmae.cli import main
scans = INSTALLED / "Resources" / "SampleScans"
def run(*words):
    status = main([str(word) for word in words])
    assert status == 0, (status, words)
run("finetune", "--images", scans / "images", "--labels", scans / "labels", "--cases", "hippocampus_039",
    "hippocampus_207", "--steps", 2, "--setting", "start_steps=20", "--setting", "start_crops=1", "--device", "cpu",
    "--out", OUT / "model")
run("segment", "--model", OUT / "model", "--images", scans / "images" / "hippocampus_003.nii.gz", "--out",
    OUT / "results", "--device", "cpu")
run("evaluate", "--predictions", OUT / "results", "--labels", scans / "labels", "--out", OUT / "report.json")
import glmae
assert Path(glmae.__file__).is_relative_to(INSTALLED), glmae.__file__
"""


def test_the_engine_runs_from_the_installed_files_alone(installed: Path, tmp_path: Path) -> None:
    opened = watched(installed, tmp_path, JOBS)
    assert outside_of(opened, ()) == set()
    scans = {path for path in opened if path.is_relative_to(installed / "Resources" / "SampleScans")}
    assert installed / "Resources" / "SampleScans" / "labels" / "classes.json" in scans
    card = installed / "Resources" / "Models" / FinetuneConfig.preset / "model.json"
    assert (card in opened) == card.is_file()  # the shipped backbone is the default, where there is one


SLICER_SIDE = """
from mrml_scene import new_scene
from standins.application import ModuleParent, load_module
scene = new_scene()
module = load_module(INSTALLED / "GLMAESegmentation.py")
module.description(ModuleParent())
from GLMAESegmentationLib.scene.sample_data import load_group, sample_groups
volumes = load_group(sample_groups()[0], scene)
cases = module.logic().exportLabeled(str(OUT / "cases"))
assert len(cases.cases) == 2
for case in cases.cases:
    module.logic().importResult(str(cases.labels / f"{case.name}.seg.nrrd"), scene.GetNodeByID(case.volumes[0]))
assert scene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode") == 4
import GLMAESegmentationLib
assert Path(GLMAESegmentationLib.__file__).is_relative_to(INSTALLED)
"""


def test_the_module_runs_from_the_installed_files_alone(installed: Path, tmp_path: Path) -> None:
    tests = REPOSITORY / "Testing" / "slicer_side"
    opened = watched(installed, tmp_path, SLICER_SIDE, (tests,))
    assert outside_of(opened, (tests,)) == set()
    assert installed / "GLMAESegmentation.py" in opened
