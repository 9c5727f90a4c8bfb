"""Texts in the user's language: Slicer's translations where there are any, else the English text."""

from __future__ import annotations

try:
    from slicer.i18n import tr
except ImportError:  # another front end, or slicer-core, which has no translations

    def tr(text: str) -> str:
        """The text itself."""
        return text


__all__ = ["tr"]
