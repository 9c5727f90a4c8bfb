"""Make `.venv-nnunet`, where the benchmark runs nnU-Net v2: `python benchmarks/nnunet_environment.py`.

An environment of its own, because nnU-Net asks for other packages than the project, and pip would replace its torch.
"""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENT = ROOT / ".venv-nnunet"
NNUNET = "nnunetv2==2.8.1"
# Of constraints.txt: what both environments compute and read scans with is the same.
SHARED = ("torch", "numpy", "scipy", "simpleitk")


def main() -> int:
    """Return 0 when nnU-Net can be run."""
    python = interpreter()
    if not python.exists():
        venv.create(ENVIRONMENT, with_pip=True)
    # nnU-Net imports distutils, which newer Pythons have from setuptools only.
    packages = [NNUNET, "setuptools", *shared_versions()]
    command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages]
    if subprocess.run(command, check=False).returncode:
        print(f"nnU-Net could not be installed in {ENVIRONMENT}; run this again to go on", file=sys.stderr)
        return 1
    return subprocess.run([str(python), "-c", "import nnunetv2, torch"], check=False).returncode


def interpreter() -> Path:
    """Python of the environment; it need not be there."""
    return ENVIRONMENT / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")


def shared_versions() -> list[str]:
    """The lines of constraints.txt, markers included, for the shared packages."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line.split("==")[0] in SHARED]


if __name__ == "__main__":
    sys.exit(main())
