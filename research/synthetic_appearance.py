"""How an anatomy looks in a scan: CT-like or MR-like, with random intensities, texture, blur, noise and bias."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter

from .synthetic_anatomy import Anatomy
from .synthetic_label_map import WARP, Tissue, smooth_field

# Hounsfield units: the range that the mean of a label is drawn from, and the deviation within it.
_HOUNSFIELD: dict[Tissue, tuple[float, float, float]] = {
    Tissue.AIR: (-1000, -1000, 0),
    Tissue.FAT: (-120, -70, 8),
    Tissue.SOFT: (10, 100, 8),
    Tissue.FLUID: (-10, 25, 3),
    Tissue.VESSEL: (40, 60, 3),
    Tissue.BONE: (400, 1400, 120),
    Tissue.MARROW: (80, 350, 60),
    Tissue.LUNG: (-900, -650, 60),
    Tissue.GAS: (-1000, -900, 10),
}
# Voxels per slice where slices are thick.
THICK_SLICES = (2.0, 5.0)
# Noise is at most this share of the deviation within the body: what is drowned in noise teaches nothing.
MOST_NOISE = 0.5


def render(anatomy: Anatomy, random: np.random.Generator) -> np.ndarray:
    """Draw an appearance for an anatomy.

    Args:
        anatomy: what is seen.
        random: decides modality, intensities, and everything that a scanner adds.

    Returns:
        float32 [I, J, K]; mean 0 and standard deviation 1 over the body.
    """
    is_ct = random.random() < 0.5
    means, deviations = (_hounsfield if is_ct else _signals)(anatomy.tissues, random)
    values = means[anatomy.labels]
    shares = random.uniform(-1, 1, 2).astype(np.float32)
    shares /= np.linalg.norm(shares)
    values += deviations[anatomy.labels] * (shares[0] * anatomy.textures[0] + shares[1] * anatomy.textures[1])
    # Partial volume: what a voxel sees reaches beyond it, further along axes with finer voxels.
    coarsest = max(anatomy.spacing)
    sharpness = random.uniform(0.35, 0.9)
    values = gaussian_filter(values, [sharpness * (coarsest / side) ** 0.5 for side in anatomy.spacing], truncate=3)
    if not is_ct:
        values *= np.exp(np.float32(random.uniform(0, 0.35)) * _bias(anatomy, random))
    most = MOST_NOISE * float(values[anatomy.body][::7].std())
    slices = coarsest == 1 and random.random() < 0.35
    axis = int(random.choice(3, p=[0.2, 0.2, 0.6]))
    thickness = random.uniform(*THICK_SLICES)
    averaging, interpolating = _slices(len(values), thickness)
    if slices:
        values = _along(averaging, values, axis)
        most /= thickness**0.5
    values = _with_quantum_noise(values, random, most) if is_ct else _with_thermal_noise(values, random, most)
    if slices:
        values = _along(interpolating, values, axis)
    if is_ct:
        low, high = random.uniform(-1000, -150), random.uniform(200, 1300)
    else:
        low, high = (float(edge) for edge in np.percentile(values[anatomy.body][::7], (0.5, 99.5)))
    return _normalized(values, anatomy.body, low, high)


def _hounsfield(tissues: tuple[Tissue, ...], random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation within each label, HU; float32 [labels] both."""
    enhanced = random.uniform(60, 300) if random.random() < 0.5 else 0.0
    means, deviations = [], []
    for tissue in tissues:
        low, high, deviation = _HOUNSFIELD[tissue]
        mean = random.uniform(low, high)
        if tissue == Tissue.VESSEL:
            mean += enhanced
        elif tissue == Tissue.SOFT:
            mean += enhanced * random.uniform(0, 0.3)
        means.append(mean)
        deviations.append(deviation * random.uniform(0.3, 1.5))
    return np.array(means, dtype=np.float32), np.array(deviations, dtype=np.float32)


def _signals(tissues: tuple[Tissue, ...], random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation within each label, brightest about 1; float32 [labels] both.

    A sequence decides how bright each tissue is; labels of one tissue differ around that. Air, gas and dense bone have
    no signal to speak of, lungs little.
    """
    bright = {tissue: random.uniform(0.15, 1.0) for tissue in Tissue}
    for tissue, most in ((Tissue.GAS, 0.05), (Tissue.BONE, 0.25), (Tissue.LUNG, 0.25)):
        bright[tissue] = random.uniform(0, most)
    spread = random.uniform(0.08, 0.25)
    means = np.array([max(0.0, bright[tissue] + spread * random.normal()) for tissue in tissues])
    for label, tissue in enumerate(tissues):
        if tissue in (Tissue.AIR, Tissue.GAS):
            means[label] = 0.03 * random.random()
    deviations = means * random.uniform(0.01, 0.1, len(tissues))
    return means.astype(np.float32), deviations.astype(np.float32)


def _bias(anatomy: Anatomy, random: np.random.Generator) -> np.ndarray:
    """The logarithm of a receive coil's sensitivity, deviation about 1, float32 [I, J, K]."""
    return smooth_field(random, len(anatomy.labels), [random.uniform(1, WARP) * side for side in anatomy.spacing])


def _with_quantum_noise(values: np.ndarray, random: np.random.Generator, most: float) -> np.ndarray:
    """CT: normal noise of a deviation up to `most`, as coarse as the reconstruction kernel made it."""
    noise = random.standard_normal(values.shape, dtype=np.float32)
    width = random.uniform(0, 0.9)
    if width > 0.35:
        noise = gaussian_filter(noise, width, truncate=3)
        noise /= noise.std()
    return values + np.float32(min(most, _between(random, 4, 35))) * noise


def _with_thermal_noise(values: np.ndarray, random: np.random.Generator, most: float) -> np.ndarray:
    """MR: the magnitude of a complex signal with normal noise of a deviation up to `most` (Rician)."""
    noise = random.standard_normal((2, *values.shape), dtype=np.float32)
    noise *= np.float32(min(most, _between(random, 0.008, 0.07)))
    return np.asarray(np.hypot(values + noise[0], noise[1]), dtype=np.float32)


def _between(random: np.random.Generator, low: float, high: float) -> float:
    """Log-uniform."""
    return float(np.exp(random.uniform(np.log(low), np.log(high))))


def _slices(side: int, thickness: float) -> tuple[np.ndarray, np.ndarray]:
    """Matrices that average `side` voxels into slices [M, side] and interpolate these again [side, M]."""
    count = max(2, round(side / thickness))
    edges = np.linspace(0, side, count + 1)
    voxels = np.arange(side)
    held = np.minimum(edges[1:, None], voxels + 1) - np.maximum(edges[:-1, None], voxels)
    averaging = np.clip(held, 0, None) * count / side
    middles = (edges[1:] + edges[:-1]) / 2
    interpolating = np.stack([np.interp(voxels + 0.5, middles, row) for row in np.eye(count)], axis=1)
    return averaging.astype(np.float32), interpolating.astype(np.float32)


def _along(matrix: np.ndarray, values: np.ndarray, axis: int) -> np.ndarray:
    """Apply a matrix along one axis."""
    return np.ascontiguousarray(np.moveaxis(np.tensordot(matrix, values, (1, axis)), 0, axis))


def _normalized(values: np.ndarray, body: np.ndarray, low: float, high: float) -> np.ndarray:
    """Clip to a window and scale, so that the body has mean 0 and deviation 1."""
    values = np.clip(values, low, high)
    picture = values[body]
    mean, deviation = picture.mean(dtype=np.float64), picture.std(dtype=np.float64)
    return ((values - np.float32(mean)) / np.float32(max(deviation, 1e-6))).astype(np.float32)
