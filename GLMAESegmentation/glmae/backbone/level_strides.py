"""How a U-shaped head comes from the scan down to the token map."""

from __future__ import annotations

from collections.abc import Sequence


def level_strides(patch_size: Sequence[int]) -> list[tuple[int, int, int]]:
    """Strides of 2 per axis whose product is the patch; a thin axis is halved only at the deep levels.

    Example: patch (8, 8, 2) -> (2, 2, 1), (2, 2, 1), (2, 2, 2).

    Raises:
        ValueError: a side of the patch is no power of two.
    """
    powers = [int(side).bit_length() - 1 for side in patch_size]
    if any(2**power != side for power, side in zip(powers, patch_size, strict=True)):
        raise ValueError(f"patch {tuple(patch_size)}: each side must be a power of two")
    levels = max(powers)
    halves = [[2 if level >= levels - power else 1 for power in powers] for level in range(levels)]
    return [(a, b, c) for a, b, c in halves]
