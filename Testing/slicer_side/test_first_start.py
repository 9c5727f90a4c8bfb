"""The first start, in a Slicer with none of the packages: all opens, and says in a sentence what it needs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

SOURCE = Path(__file__).parents[2] / "GLMAESegmentation"

# Hides the packages and their metadata, as if they had never been installed.
HIDDEN = """
import sys
from importlib import metadata
from importlib.machinery import PathFinder
ABSENT = {"torch", "monai", "scipy", "safetensors", "matplotlib", "tqdm", "psutil", "filelock"}
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ABSENT:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Absent())
distributions, find_spec = metadata.distributions, PathFinder.find_spec
metadata.distributions = lambda **words: [] if words.get("name") in ABSENT else distributions(**words)
PathFinder.find_spec = classmethod(lambda cls, name, *rest: None if name in ABSENT else find_spec(name, *rest))
"""

OPEN = """
import json
from pathlib import Path
import importlib
from standins.application import ModuleParent, load_module
source = Path(sys.argv[1])
for path in sorted((source / "GLMAESegmentationLib").glob("*.py")):
    importlib.import_module(f"GLMAESegmentationLib.{path.stem}" if path.stem != "__init__" else "GLMAESegmentationLib")
module = load_module(source / "GLMAESegmentation.py")
module.description(ModuleParent())
from GLMAESegmentationLib.packages import installed_packages, lacking, what_is_missing
packages = installed_packages()
print(json.dumps([[package.name for package in lacking(packages)], what_is_missing(packages)]))
"""


def test_it_opens_and_says_what_it_needs() -> None:
    paths = [str(SOURCE), str(Path(__file__).parent)]
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:0] = {paths!r}\n{HIDDEN}\n{OPEN}", str(SOURCE)],
        capture_output=True,
        text=True,
        encoding="utf-8",
        env={key: value for key, value in os.environ.items() if key != "PYTHONPATH"},
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    missing, sentence = json.loads(done.stdout.splitlines()[-1])
    assert {"torch", "monai", "scipy", "safetensors", "matplotlib", "tqdm"} <= set(missing)
    assert sentence.startswith("GLMAE needs PyTorch 2.8, monai, scipy, ")
    assert sentence.count(". ") == 0  # one sentence
