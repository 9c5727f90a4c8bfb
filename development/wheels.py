"""Fill a folder with all that the extension installs, for a computer of the same kind without internet.

    python development/wheels.py FOLDER [--torch cpu|cu126|cu128|cu130|...]

Fetches uv, Python and every package of GLMAESegmentation/Resources/engine_lock.txt. PyTorch comes from the package
index, or with --torch from PyTorch's own servers in that build. What is in FOLDER already is not fetched again.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "GLMAESegmentation"))

from GLMAESegmentationLib.setup import uv  # noqa: E402
from GLMAESegmentationLib.setup.computer import this_computer  # noqa: E402
from GLMAESegmentationLib.setup.environment import UV_LOCK, EngineEnvironment  # noqa: E402

TORCH_INDEX = "https://download.pytorch.org/whl/"
DOWNLOAD = ("-m", "pip", "download", "--disable-pip-version-check", "--only-binary", ":all:")


def main(arguments: Sequence[str] | None = None) -> int:
    """Return 0 when the folder is full."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--torch", default="", help="PyTorch's build; without, the one of the package index")
    options = parser.parse_args(arguments)
    folder = options.folder.resolve()
    computer = this_computer()
    if not computer.has_torch:
        print("wheels: there is no PyTorch for Macs with an Intel processor; use another computer", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as temporary:
        environment = EngineEnvironment(Path(temporary))
        source = uv.Source(folder)
        found = uv.variables(environment, uv.Source(), os.environ, urllib.request.getproxies())
        found["UV_PYTHON_CACHE_DIR"] = str(folder / uv.ARCHIVES)
        try:
            run([sys.executable, *DOWNLOAD, "--no-deps", "--dest", str(folder), "--requirement", str(UV_LOCK)], found)
            run(uv.fetch_uv((sys.executable, "-m", "pip"), environment.uv.parents[1], source), found)
            made = uv.make_environment(environment, computer, os.environ.get("UV_PYTHON", ""))
            run([*made, "--seed"], found)  # with pip: only a pip in this Python takes the right files
            python = str(environment.python)
            lock, torch = parts(environment.lock.read_text(encoding="utf-8"))
            wanted = Path(temporary) / "lock.txt"
            wanted.write_text(lock, encoding="utf-8")
            run([python, *DOWNLOAD, "--no-deps", "--dest", str(folder), "--requirement", str(wanted)], found)
            wanted.write_text(re.sub(r" \\\n    --hash=\S+", "", lock), encoding="utf-8")
            words = [python, *DOWNLOAD, "--dest", str(folder), "--find-links", str(folder), torch]
            words += ["--constraint", str(wanted)]  # what PyTorch needs is there already, in the lock's versions
            if options.torch:
                words += ["--index-url", TORCH_INDEX + options.torch, "--extra-index-url", "https://pypi.org/simple"]
            run(words, found)
        except subprocess.CalledProcessError as error:
            print(f"wheels: {' '.join(error.cmd[:5])} ... failed; run it again to go on", file=sys.stderr)
            return 1
    print(f"{folder}: {len(list(folder.glob('*.whl')))} wheels")
    return 0


def parts(lock: str) -> tuple[str, str]:
    """The lock without PyTorch, and PyTorch's requirement."""
    torch = re.search(r"(?m)^torch==\S+", lock)
    assert torch is not None
    return re.sub(r"(?m)^torch==.*\n(?:^ .*\n)*", "", lock), torch[0]


def run(words: list[str], variables: dict[str, str]) -> None:
    """Run a program.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    subprocess.run(words, env=variables, check=True)


if __name__ == "__main__":
    sys.exit(main())
