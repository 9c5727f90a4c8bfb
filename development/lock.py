"""Write the exact versions and hashes that the extension installs: GLMAESegmentation/Resources/*_lock.txt.

    python development/lock.py

The versions are those of constraints.txt, with which everything is tested. Needs uv (pip install uv) and the internet.

PyTorch has another file, and so another hash, for each kind of graphics card, and brings the libraries for it in exact
versions of its own. Only on macOS, where there is one build, its hash is in the lock; elsewhere its exact version is.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RESOURCES = ROOT / "GLMAESegmentation" / "Resources"
HEAD = "# Written by development/lock.py.\n"
# What PyTorch for NVIDIA's cards brings along.
BROUGHT_BY_TORCH = re.compile(r"(nvidia|cuda|triton)\b")


def main() -> int:
    """Write both files."""
    uv = shutil.which("uv", path=str(Path(sys.executable).parent)) or shutil.which("uv")
    if uv is None:
        print("lock: uv is missing; pip install uv", file=sys.stderr)
        return 1
    engine = compiled(uv, ROOT / "pyproject.toml", "--constraints", str(ROOT / "constraints.txt"))
    (RESOURCES / "engine_lock.txt").write_text(HEAD + engine_lock(engine), encoding="utf-8", newline="\n")
    with tempfile.TemporaryDirectory() as folder:
        wanted = Path(folder) / "uv.txt"
        version = subprocess.run([uv, "--version"], capture_output=True, text=True, check=True).stdout.split()[1]
        wanted.write_text(f"uv=={version}\n", encoding="utf-8")
        (RESOURCES / "uv_lock.txt").write_text(HEAD + compiled(uv, wanted), encoding="utf-8", newline="\n")
    return 0


def compiled(uv: str, requirements: Path, *more: str) -> str:
    """All that `requirements` need, for all systems and versions of Python."""
    words = [uv, "pip", "compile", str(requirements), *more, "--universal", "--python-version", "3.10"]
    words += ["--no-python-downloads", "--generate-hashes", "--no-header", "--no-annotate", "--quiet", "--no-config"]
    done = subprocess.run(words, capture_output=True, text=True, encoding="utf-8", check=False, cwd=ROOT)
    if done.returncode:
        raise SystemExit(done.stderr)
    return done.stdout


def engine_lock(text: str) -> str:
    """Without what PyTorch brings along, and with its hashes for macOS only."""
    entries = re.findall(r"(?m)^\S.*\n(?:^ .*\n)*", text)
    kept = []
    for entry in entries:
        if BROUGHT_BY_TORCH.match(entry):
            continue
        if entry.startswith("torch=="):
            first, _newline, hashes = entry.partition(" \\\n")
            kept.append(f"{first} ; sys_platform == 'darwin' \\\n{hashes}{first} ; sys_platform != 'darwin'\n")
        else:
            kept.append(entry)
    return "".join(kept)


if __name__ == "__main__":
    sys.exit(main())
