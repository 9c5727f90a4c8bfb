"""What the panel's widgets need of the application around them."""

from __future__ import annotations

from typing import Protocol


class Surroundings(Protocol):
    """What the panel needs of the application beside its own widgets."""

    def load_scans(self) -> None:
        """Let the user load volumes."""

    def open_dicom(self) -> None:
        """Let the user load scans from DICOM."""

    def show_scan(self, volume_id: str, segmentation_id: str) -> None:
        """Show a volume and this segmentation alone, or none, in the slice views."""

    def show_surfaces(self, segmentation_id: str) -> None:
        """Show a segmentation in 3D, or hide it there."""

    def confirm(self, question: str) -> bool:
        """Ask a question that is answered by yes or no."""

    def copy(self, text: str) -> None:
        """Put a text into the clipboard."""
