"""Where in a scan the body is."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from .geometry import Box
from .resampling import bounding_box

# The body is looked for on at most so many voxels along an axis.
_SIDE = 96
# A voxel is of the body from this share of the way between the darkest and the brightest on.
_LEVEL, _BRIGHTEST = 0.15, 0.99


def body_box(image: np.ndarray) -> Box:
    """The box of the largest bright part of a scan; of a scan that has none, or is uniform, the whole.

    Args:
        image: [C, I, J, K], of which the first channel is looked at; may be memory-mapped.

    Returns:
        First voxel and one past the last, along I, J, K.
    """
    steps = [max(1, -(-side // _SIDE)) for side in image.shape[1:]]
    thin = np.asarray(image[0, :: steps[0], :: steps[1], :: steps[2]], dtype=np.float32)
    lowest, brightest = float(thin.min()), float(np.quantile(thin, _BRIGHTEST))
    parts, count = ndimage.label(thin > lowest + _LEVEL * (brightest - lowest))
    if not count:
        return tuple((0, side) for side in image.shape[1:])
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    found = bounding_box(parts == sizes.argmax(), margin=0)
    assert found is not None
    return tuple(
        (low * step, min(side, high * step))
        for (low, high), step, side in zip(found, steps, image.shape[1:], strict=True)
    )
