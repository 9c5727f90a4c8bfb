"""The files of the repository: not what was built or written beside them."""

from __future__ import annotations

import subprocess
from pathlib import Path

from cmake_text import REPOSITORY


def tracked_files() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], capture_output=True, check=True, cwd=REPOSITORY).stdout
    return [REPOSITORY / name for name in listed.decode("utf-8").split("\0") if name and (REPOSITORY / name).is_file()]
