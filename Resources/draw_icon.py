"""Draws the icon: an image cut into patches, some of them masked, and the structure that is found all the same.

    python Resources/draw_icon.py

writes the icon of the extension and of the module (128x128). Needs Pillow.
"""

from __future__ import annotations

import math
from pathlib import Path

from PIL import Image, ImageDraw

SIZE = 128
SUPERSAMPLING = 8
PATCHES = 3  # a side; more would blur at 16 px
MASKED = {(2, 0), (0, 1), (1, 2)}  # column, row

SHOWN = (122, 168, 205, 255)
HIDDEN = (38, 54, 74, 255)
STRUCTURE = (255, 158, 27, 255)
OUTLINE = (255, 255, 255, 255)

REPOSITORY = Path(__file__).parents[1]
ICON = REPOSITORY / "GLMAESegmentation" / "Resources" / "Icons" / "GLMAESegmentation.png"


def draw_icon(size: int = SIZE) -> Image.Image:
    """The icon as an RGBA image of `size` x `size` pixels."""
    side = SIZE * SUPERSAMPLING
    image = Image.new("RGBA", (side, side), (0, 0, 0, 0))
    pen = ImageDraw.Draw(image)
    gap = side * 0.035
    step = (side + gap) / PATCHES
    for column in range(PATCHES):
        for row in range(PATCHES):
            left, top = column * step, row * step
            box = (left, top, left + step - gap, top + step - gap)
            pen.rounded_rectangle(box, radius=side * 0.05, fill=HIDDEN if (column, row) in MASKED else SHOWN)
    spine = [_spine(side, position / 60) for position in range(61)]
    for color, widening in ((OUTLINE, side * 0.035), (STRUCTURE, 0.0)):
        for x, y, radius in spine:
            wide = radius + widening
            pen.ellipse((x - wide, y - wide, x + wide, y + wide), fill=color)
    return image.resize((size, size), Image.Resampling.LANCZOS)


def _spine(side: int, position: float) -> tuple[float, float, float]:
    """Center and radius along a seahorse-like arc (the hippocampus), from its head (0) to its tail (1)."""
    angle = math.radians(150 - 235 * position)
    x = side * (0.5 + 0.27 * math.cos(angle))
    y = side * (0.53 - 0.27 * math.sin(angle))
    return x, y, side * (0.155 - 0.075 * position)


def main() -> None:
    """Write the icon."""
    draw_icon().save(ICON, optimize=True)


if __name__ == "__main__":
    main()
