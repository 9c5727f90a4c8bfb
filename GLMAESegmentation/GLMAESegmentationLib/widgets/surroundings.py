"""What the panel's widgets need of the application around them."""

from __future__ import annotations

from typing import Protocol


class Surroundings(Protocol):
    """What the panel needs of the application beside its own widgets."""

    def load_scans(self) -> None:
        """Let the user load volumes."""

    def show_volume(self, volume_id: str) -> None:
        """Show a volume in the slice views."""

    def show_segmentation(self, segmentation_id: str) -> None:
        """Show a segmentation on its volume in the slice views."""

    def confirm(self, question: str) -> bool:
        """Ask a question that is answered by yes or no."""

    def copy(self, text: str) -> None:
        """Put a text into the clipboard."""
