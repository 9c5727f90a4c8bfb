"""A folder like a Python's site-packages, made of nothing but names and versions."""

from __future__ import annotations

from pathlib import Path

from GLMAESegmentationLib.setup.packages import requirements

GOOD = {line.split(">=")[0]: line.split(">=")[1] + ".9" for line in requirements()} | {"torch": "2.8.0+cu126"}


class SitePackages:
    """Writes what pip writes: the package's files, then its metadata with the list of files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True)

    def add(self, name: str, version: str) -> None:
        self.remove(name)
        files = [f"{name}/__init__.py", f"{name}/core.so"]
        (self.folder / name).mkdir()
        for file in files:
            (self.folder / file).write_text("", encoding="utf-8")
        info = self.folder / f"{name}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n", encoding="utf-8")
        (info / "RECORD").write_text("".join(f"{file},sha256=47DEQ,0\n" for file in files), encoding="utf-8")

    def remove(self, name: str) -> None:
        for folder in [self.folder / name, *self.folder.glob(f"{name}-*.dist-info")]:
            if folder.is_dir():
                for file in folder.iterdir():
                    file.unlink()
                folder.rmdir()
