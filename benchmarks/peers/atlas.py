"""Label propagation: each labeled scan is registered to the scan to segment, and their labels vote."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from task import Outcome, Task

from glmae.scans.case import Case
from glmae.scans.cases import find_cases, find_images
from glmae.scans.classes import IGNORE, ClassTable
from glmae.scans.image import read_channels
from glmae.scans.labels import read_label
from glmae.scans.written_image import write_labelmap


@dataclass(frozen=True, kw_only=True)
class AtlasConfig:
    """Registration by mutual information, coarse to fine; nothing is trained, and the minutes are not used.

    Attributes:
        bins: of the joint histogram.
        samples: voxels that the measure is sampled at, as a number; fewer where the scan is smaller.
        affine_iterations: at each of three resolutions.
        deformable_iterations: at each of two resolutions of the B-spline grid.
        control_mm: distance of the B-spline's control points at the finer one.
    """

    bins: int = 32
    samples: int = 40_000
    affine_iterations: int = 100
    deformable_iterations: int = 30
    control_mm: float = 25.0


def run(task: Task) -> Outcome:
    """Registering and voting is counted as segmenting; what is ready before is the atlases, read."""
    began = time.monotonic()
    config = dataclasses.replace(AtlasConfig(), **task.settings)
    data = task.data
    cases, table = find_cases(data.images, data.labels, task.labeled)
    atlases = [_read(case, table) for case in cases]
    ready = time.monotonic()
    for case in find_images(task.test_images):
        fixed = _first_channel(case)
        labels = propagate(fixed, atlases, table, config, task.seed)
        write_labelmap(task.predictions / f"{case.name}.nii.gz", labels, table)
    return Outcome(seconds=ready - began, segment_seconds=time.monotonic() - ready)


@dataclass(frozen=True)
class Atlas:
    """A labeled scan, float32, its label (0..n, and `IGNORE` where nothing is known), and the classes drawn in it."""

    scan: sitk.Image
    label: sitk.Image
    drawn: frozenset[int]


def propagate(
    fixed: sitk.Image, atlases: Sequence[Atlas], table: ClassTable, config: AtlasConfig, seed: int
) -> sitk.Image:
    """Labels for `fixed`, with the values of the classes.

    The masks are moved by linear interpolation. A class gets the mean over the atlases in which it was drawn, and the
    largest wins: with two atlases, too, there is hardly ever a tie.
    """
    shape = (len(table) + 1, *sitk.GetArrayViewFromImage(fixed).shape)
    votes, voters = np.zeros(shape, dtype=np.float32), np.zeros(shape, dtype=np.float32)
    for atlas in atlases:
        transform = register(fixed, atlas.scan, config, seed)
        known = _moved(atlas.label != IGNORE, fixed, transform, outside=1.0)
        for number in atlas.drawn:
            votes[number] += _moved(atlas.label == number, fixed, transform, outside=0.0)
            voters[number] += known
    share = votes / np.maximum(voters, 1e-6)
    share[0] = 1 - share[1:].sum(axis=0)
    lookup = np.array([0, *table.values], dtype=np.uint16)
    labels = sitk.GetImageFromArray(lookup[share.argmax(axis=0)])
    labels.CopyInformation(fixed)
    return labels


def _moved(mask: sitk.Image, fixed: sitk.Image, transform: sitk.Transform, outside: float) -> np.ndarray:
    moved = sitk.Resample(sitk.Cast(mask, sitk.sitkFloat32), fixed, transform, sitk.sitkLinear, outside)
    return np.asarray(sitk.GetArrayFromImage(moved))


def register(fixed: sitk.Image, moving: sitk.Image, config: AtlasConfig, seed: int) -> sitk.Transform:
    """The transform from the points of `fixed` to those of `moving`: affine, then a B-spline on top."""
    centered = sitk.CenteredTransformInitializer(
        fixed, moving, sitk.AffineTransform(3), sitk.CenteredTransformInitializerFilter.GEOMETRY
    )
    method = _method(fixed, config, seed)
    method.SetOptimizerAsRegularStepGradientDescent(
        learningRate=1.0, minStep=1e-4, numberOfIterations=config.affine_iterations
    )
    method.SetOptimizerScalesFromPhysicalShift()
    factors = [factor for factor in (4, 2, 1) if factor == 1 or min(fixed.GetSize()) >= 8 * factor]
    method.SetShrinkFactorsPerLevel(factors)
    method.SetSmoothingSigmasPerLevel([factor / 2 if factor > 1 else 0 for factor in factors])
    method.SetInitialTransform(centered, inPlace=False)
    affine = method.Execute(fixed, moving)

    method = _method(fixed, config, seed)
    method.SetOptimizerAsLBFGS2(
        solutionAccuracy=1e-2, numberOfIterations=config.deformable_iterations, deltaConvergenceTolerance=0.01
    )
    extent = np.array(fixed.GetSize()) * np.array(fixed.GetSpacing())
    # Half as many points at first.
    mesh = [max(1, round(side / config.control_mm / 2)) for side in extent]
    spline = sitk.BSplineTransformInitializer(fixed, mesh, order=3)
    method.SetMovingInitialTransform(affine)
    method.SetInitialTransformAsBSpline(spline, inPlace=True, scaleFactors=[1, 2])
    method.SetShrinkFactorsPerLevel([2, 1] if min(fixed.GetSize()) >= 16 else [1, 1])
    method.SetSmoothingSigmasPerLevel([1, 0])
    method.Execute(fixed, moving)
    return sitk.CompositeTransform([affine, spline])


def _method(fixed: sitk.Image, config: AtlasConfig, seed: int) -> sitk.ImageRegistrationMethod:
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(config.bins)
    method.SetMetricSamplingStrategy(method.RANDOM)
    method.SetMetricSamplingPercentage(min(1.0, config.samples / fixed.GetNumberOfPixels()), seed + 1)
    method.SetInterpolator(sitk.sitkLinear)
    return method


def _read(case: Case, table: ClassTable) -> Atlas:
    scan = _first_channel(case)
    label = read_label(case, scan, table)
    drawn = {int(number) for number in np.unique(sitk.GetArrayViewFromImage(label))}
    if case.annotated is not None:
        drawn = {number for name in case.annotated if (number := table.find(name)) is not None}
    return Atlas(scan, label, frozenset(drawn) - {0, IGNORE})


def _first_channel(case: Case) -> sitk.Image:
    return sitk.Cast(read_channels(case.images)[0], sitk.sitkFloat32)
