"""The losses of GL-MAE: reconstruction of masked patches, agreement with the teacher, and our spread of volumes.

All are computed in float32, within autocast too.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

PATCH_EPSILON, SPREAD_EPSILON = 1e-6, 1e-4


def reconstruction_loss(predicted: Tensor, target: Tensor) -> Tensor:
    """Mean squared error over the masked patches (arXiv 2111.06377), both [B, M, D]."""
    return F.mse_loss(predicted.float(), target.float())


def normalise_patches(patches: Tensor) -> Tensor:
    """Each patch [..., D] with mean 0 and variance 1, as MAE's targets; a constant patch becomes zero."""
    variance, mean = torch.var_mean(patches.float(), dim=-1, keepdim=True)
    return (patches - mean) / (variance + PATCH_EPSILON).sqrt()


def teacher_distribution(similarities: Tensor, centre: Tensor, temperature: float) -> Tensor:
    """The teacher's centred and sharpened choice of prototypes.

    Args:
        similarities: [..., K], from the teacher's projector.
        centre: [K], the running mean of such similarities.
        temperature: the lower, the sharper.

    Returns:
        Probabilities [..., K].
    """
    return F.softmax((similarities.float() - centre) / temperature, dim=-1)


def consistency_loss(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Mean cross-entropy between each teacher view and each student view of the same volume (arXiv 2104.14294).

    Unlike DINO, pairs of the same view count: the student's is masked, so they are not trivial.

    Args:
        student: similarities [B, V, K] of V masked views.
        teacher: probabilities [B, P, K] of P complete global views, without gradient.
        temperature: of the student's softmax.
    """
    # Cross-entropy is linear in the teacher, so the mean over all P x V pairs is that with the mean teacher.
    mean_teacher = teacher.mean(dim=1, keepdim=True)  # [B, 1, K]
    return -(mean_teacher * F.log_softmax(student.float() / temperature, dim=-1)).sum(dim=-1).mean()


def updated_centre(centre: Tensor, similarities: Tensor, momentum: float) -> Tensor:
    """The running mean [K] of the teacher's similarities [..., K] after one more batch."""
    return centre * momentum + similarities.float().flatten(0, -2).mean(dim=0) * (1 - momentum)


def spread_loss(cls: Tensor) -> Tensor:
    """How close the volumes of a batch lie to one another: KoLeo (Sablayrolles et al., arXiv 1806.03198; DINOv2).

    The mean of -log of the distance to the nearest other volume, between CLS tokens of unit length. It rises without
    bound as they become the same for every volume, which nothing else in the loss forbids.

    Args:
        cls: of V views of B volumes, B at least 2, [B, V, width]. Views with the same number are compared.
    """
    points = F.normalize(cls.float().transpose(0, 1), dim=-1)  # [V, B, width]
    # Near collapse, bfloat16 rounds the cosines of all volumes to the same few numbers.
    with torch.no_grad(), torch.autocast(cls.device.type, enabled=False):
        similar = points @ points.transpose(1, 2)
        similar.diagonal(dim1=1, dim2=2).fill_(-2.0)
        nearest = similar.argmax(dim=-1)[..., None].expand_as(points)
    distance = (points - points.gather(1, nearest)).square().sum(dim=-1)
    return -0.5 * (distance + SPREAD_EPSILON**2).log().mean()
