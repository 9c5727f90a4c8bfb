"""Which third-party packages the engine's process would not find."""

from __future__ import annotations

from importlib import metadata

REQUIRED = ("torch", "monai", "scipy", "safetensors", "matplotlib", "tqdm", "SimpleITK")


def missing_packages() -> tuple[str, ...]:
    """Names of what is not installed. Reads their metadata only: torch must not be imported in Slicer's process."""
    return tuple(name for name in REQUIRED if not _installed(name))


def _installed(name: str) -> bool:
    try:
        return bool(metadata.version(name))
    except metadata.PackageNotFoundError:
        return False
