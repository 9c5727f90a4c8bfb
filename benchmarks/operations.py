"""Floating-point operations of pre-training, two for each multiply-add; element-wise work is not counted.

Backwards, a matrix product costs twice what it costs forwards, but the first one, whose input has no gradient, once.
"""

from __future__ import annotations

import math

from glmae.backbone.presets import BackboneConfig
from glmae.pretraining.configuration import PretrainConfig
from glmae.pretraining.gl_mae import MLP_RATIO, masked_count


def block(tokens: int, width: int, hidden: int, asking: int | None = None) -> int:
    """A transformer block: queries, keys, values and output; both products of the attention; the MLP.

    Where only some tokens are `asking`, keys and values are computed for all and the rest for these.
    """
    asking = tokens if asking is None else asking
    return 4 * tokens * width**2 + 2 * asking * width * (2 * width + 2 * hidden) + 4 * asking * tokens * width


def patch_embedding(backbone: BackboneConfig, patches: int) -> int:
    return 2 * patches * backbone.patch_voxels * backbone.width


def encoder(backbone: BackboneConfig, patches: int) -> int:
    """Forwards, on so many patches and CLS."""
    hidden = round(backbone.width * backbone.mlp_ratio)
    return patch_embedding(backbone, patches) + backbone.depth * block(1 + patches, backbone.width, hidden)


def encoder_cls(backbone: BackboneConfig, patches: int) -> int:
    """Forwards, for nothing but CLS."""
    hidden = round(backbone.width * backbone.mlp_ratio)
    last = [block(1 + patches, backbone.width, hidden, asking) for asking in (None, 1)]
    return encoder(backbone, patches) - last[0] + last[1]


def encoder_training(backbone: BackboneConfig, patches: int) -> int:
    return 3 * encoder(backbone, patches) - patch_embedding(backbone, patches)


def decoder(backbone: BackboneConfig, visible: int, patches: int, predicted: int) -> int:
    """Forwards: `visible` tokens come in, `patches` and CLS are worked on, `predicted` patches come out."""
    width = backbone.decoder_width
    first = 2 * (1 + visible) * backbone.width * width
    last = 2 * predicted * width * backbone.patch_voxels
    return first + backbone.decoder_depth * block(1 + patches, width, round(width * MLP_RATIO)) + last


def projector(config: PretrainConfig) -> int:
    """Forwards, one CLS token."""
    hidden, bottleneck = config.hidden, config.bottleneck
    return 2 * (config.backbone.width * hidden + hidden**2 + hidden * bottleneck + bottleneck * config.prototypes)


def volume(config: PretrainConfig) -> int:
    """One volume of a training step: all its views, the teacher included; only masked patches are predicted."""
    backbone = config.backbone
    total = 0
    kinds = (
        (config.masks_globals, config.global_views, backbone.global_view, config.weights.global_reconstruction),
        (config.masks_locals, config.local_views, backbone.local_view, config.weights.local_reconstruction),
    )
    for used, views, side, reconstruction in kinds:
        if not used:
            continue
        patches = view_patches(backbone, side)
        masked = masked_count(patches, config.mask_ratio)
        total += views * encoder_training(backbone, patches - masked)
        if reconstruction > 0:
            total += views * 3 * decoder(backbone, patches - masked, patches, masked)
    if config.uses_teacher:
        total += config.global_views * encoder_cls(backbone, view_patches(backbone, backbone.global_view))
        students = config.global_views * (config.weights.global_global > 0)
        students += config.local_views * (config.weights.global_local > 0)
        total += (config.global_views + 3 * students) * projector(config)
    return total


def view_patches(backbone: BackboneConfig, side: int) -> int:
    return math.prod(side // patch for patch in backbone.patch_size)
