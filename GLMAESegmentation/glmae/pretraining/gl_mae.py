"""GL-MAE (Zhuang et al., arXiv 2306.08913, IEEE TMI 2025): the paper's algorithm in its order and with its symbols.

Written from the description of the method. What the paper leaves open is a field of `PretrainConfig`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from ..backbone.vision_transformer import VisionTransformer, patches, token_grid
from .configuration import PretrainConfig
from .decoder import Decoder
from .dense_consistency import DenseConsistency
from .dense_views import DensePairs
from .losses import (
    consistency_loss,
    normalise_patches,
    reconstruction_loss,
    spread_loss,
    teacher_distribution,
    updated_centre,
)
from .masking import random_masks
from .projector import Projector


@dataclass(frozen=True)
class Losses:
    """The terms, unweighted, and their weighted sum; scalars. A term that is switched off is None."""

    total: Tensor
    local_reconstruction: Tensor | None
    global_reconstruction: Tensor | None
    global_global: Tensor | None
    global_local: Tensor | None
    spread: Tensor | None = None
    dense: Tensor | None = None

    def terms(self) -> dict[str, Tensor]:
        """The scalars that were computed, by name, without gradient."""
        return {name: value.detach() for name, value in vars(self).items() if value is not None}


@dataclass(frozen=True)
class MaskedPass:
    """What the student makes of V masked views of B volumes.

    Attributes:
        reconstruction: its loss; None where it is switched off.
        similarities: of the CLS tokens to the prototypes, [B, V, K]; None where they are not needed.
        cls: the CLS tokens, [B, V, width]; None where nothing was encoded.
    """

    reconstruction: Tensor | None = None
    similarities: Tensor | None = None
    cls: Tensor | None = None


class GLMAE(nn.Module):
    """One student, one decoder, and a teacher that follows the student.

    Args:
        config: network, views, weights of the four terms.
    """

    centre: Tensor

    def __init__(self, config: PretrainConfig) -> None:
        super().__init__()
        self.config = config
        self.student = VisionTransformer(config.backbone)
        self.decoder = Decoder(config.backbone)
        self.student_projector: Projector | None = None  # P_s
        self.teacher: VisionTransformer | None = None
        self.teacher_projector: Projector | None = None  # P_m
        self.register_buffer("centre", torch.zeros(config.prototypes if config.uses_teacher else 0))
        if config.uses_teacher:
            self.student_projector = self._projector()
            self.teacher = VisionTransformer(config.backbone)
            self.teacher_projector = self._projector()
            self.reset_teacher()
        self.dense_consistency: DenseConsistency | None = None
        if config.weights.dense > 0:
            self.dense_consistency = DenseConsistency(config.backbone, config.dense_temperature)

    def forward(
        self,
        global_views: Tensor | None,
        local_views: Tensor | None,
        generators: Sequence[torch.Generator],
        dense_pairs: DensePairs | None = None,
        teacher_views: Tensor | None = None,
    ) -> Losses:
        """One step's losses. In training mode the centre moves on.

        Args:
            global_views: [B, p, C, G, G, G]; may be None where no term needs them.
            local_views: [B, q, C, L, L, L]; may be None where no term needs them.
            generators: one CPU generator for each of the B volumes, for the masks.
            dense_pairs: two views of each volume; may be None where the dense consistency is off.
            teacher_views: the global views as the teacher sees them, for volumes in two appearances (our choice, after
                anatomix, arXiv 2411.02372), [B, p, C, G, G, G]; None: as the student.
        """
        config, weights = self.config, self.config.weights

        # 1. The student sees the visible patches of the masked global and local views, and the one decoder
        #    reconstructs what is masked.
        globals_ = locals_ = MaskedPass()
        if config.masks_globals:
            globals_ = self._masked_pass(
                global_views, generators, weights.global_reconstruction > 0, weights.global_global > 0
            )
        if config.masks_locals:
            locals_ = self._masked_pass(
                local_views, generators, weights.local_reconstruction > 0, weights.global_local > 0
            )

        # 2. The teacher sees the complete global views.
        global_global = global_local = None
        if config.uses_teacher:
            seen = global_views if teacher_views is None else teacher_views
            similarities = self._teacher_pass(seen)  # [B, p, K]
            anchor = teacher_distribution(similarities, self.centre, config.teacher_temperature)

            # 3. Global-to-global consistency: the teacher's complete global views anchor the student's masked ones.
            if globals_.similarities is not None:
                global_global = consistency_loss(globals_.similarities, anchor, config.student_temperature)

            # 4. Global-to-local consistency: the same anchor for the student's masked local views.
            if locals_.similarities is not None:
                global_local = consistency_loss(locals_.similarities, anchor, config.student_temperature)

            # The centre keeps the teacher from choosing one prototype for everything.
            if self.training:
                with torch.no_grad():
                    self.centre.copy_(updated_centre(self.centre, similarities, config.centre_momentum))

        # Our extension: student and teacher could agree by telling no volume from another, so volumes are kept apart.
        spread = None
        if config.weights.spread > 0 and globals_.cls is not None and len(globals_.cls) > 1:
            spread = spread_loss(globals_.cls)

        # Our extension: the same consistency place by place, for the student and the convolutional trunk.
        dense = None
        if self.dense_consistency is not None:
            if dense_pairs is None:
                raise ValueError("the dense consistency needs pairs of views")
            dense = self.dense_consistency(self.student, dense_pairs)

        # 5. The loss is the weighted sum of the terms.
        terms = {
            "local_reconstruction": locals_.reconstruction,
            "global_reconstruction": globals_.reconstruction,
            "global_global": global_global,
            "global_local": global_local,
            "spread": spread,
            "dense": dense,
        }
        weighted = [getattr(weights, name) * term for name, term in terms.items() if term is not None]
        return Losses(total=torch.stack(weighted).sum(), **terms)

    @torch.no_grad()
    def update_teacher(self, momentum: float) -> None:
        """6. After the student's step the teacher follows: teacher <- momentum * teacher + (1 - momentum) * student."""
        if self.teacher is None or self.teacher_projector is None or self.student_projector is None:
            return
        follow = get_ema_multi_avg_fn(momentum)
        follow(list(self.teacher.parameters()), list(self.student.parameters()), 0)
        follow(list(self.teacher_projector.parameters()), list(self.student_projector.parameters()), 0)

    def reset_teacher(self) -> None:
        """Make the teacher a copy of the student that never gets gradients."""
        for teacher, student in ((self.teacher, self.student), (self.teacher_projector, self.student_projector)):
            if teacher is not None and student is not None:
                teacher.load_state_dict(student.state_dict())
                teacher.requires_grad_(False)

    @torch.no_grad()
    def reconstruct(self, view: Tensor, generators: Sequence[torch.Generator]) -> tuple[Tensor, Tensor]:
        """For pictures: views with their masked patches set to zero, and with those patches as the decoder fills them.

        Args:
            view: one view of each of B volumes, [B, C, I, J, K].
            generators: one CPU generator for each volume.

        Returns:
            Both [B, C, I, J, K]. With normalised targets, mean and deviation of a patch are taken from the original.
        """
        patch_size = self.config.backbone.patch_size
        grid = token_grid(view, self.config.backbone.channels, patch_size)
        keep, masked = self._masks(view, generators, 1)
        predicted = self.decoder(self.student(view, keep), keep, grid, masked).float()
        original = patches(view, patch_size).clone()  # [B, N, D]
        places = masked[:, :, None].expand(-1, -1, original.shape[2])
        if self.config.normalise_patches:
            variance, mean = torch.var_mean(original.gather(1, places), dim=-1, keepdim=True)
            predicted = predicted * variance.sqrt() + mean
        filled = original.scatter(1, places, predicted)
        return _assembled(original.scatter(1, places, 0.0), view, patch_size), _assembled(filled, view, patch_size)

    def _masked_pass(
        self, views: Tensor | None, generators: Sequence[torch.Generator], reconstruct: bool, project: bool
    ) -> MaskedPass:
        """Encode the visible patches of `views` [B, V, C, I, J, K]; reconstruct and project as asked."""
        if views is None:
            raise ValueError("views are missing that a loss term with a weight above zero needs")
        backbone, volumes = self.config.backbone, views.shape[0]
        batch = views.flatten(0, 1)  # [B * V, C, I, J, K]
        keep, masked = self._masks(batch, generators, views.shape[1])
        tokens = self.student(batch, keep)  # [B * V, 1 + n, width]
        reconstruction = similarities = None
        if reconstruct:
            target = patches(batch, backbone.patch_size, masked)  # [B * V, M, D]
            if self.config.normalise_patches:
                target = normalise_patches(target)
            grid = token_grid(batch, backbone.channels, backbone.patch_size)
            reconstruction = reconstruction_loss(self.decoder(tokens, keep, grid, masked), target)
        if project and self.student_projector is not None:
            similarities = self.student_projector(tokens[:, 0]).unflatten(0, (volumes, -1))  # [B, V, K]
        return MaskedPass(reconstruction, similarities, tokens[:, 0].unflatten(0, (volumes, -1)))

    @torch.no_grad()
    def _teacher_pass(self, global_views: Tensor | None) -> Tensor:
        """Similarities [B, p, K] of the complete global views [B, p, C, G, G, G]."""
        if global_views is None or self.teacher is None or self.teacher_projector is None:
            raise ValueError("the consistency terms need global views and a teacher")
        tokens = self.teacher(global_views.flatten(0, 1), cls_only=True)
        similarities: Tensor = self.teacher_projector(tokens[:, 0])
        return similarities.unflatten(0, (len(global_views), -1))

    def _masks(self, batch: Tensor, generators: Sequence[torch.Generator], views: int) -> tuple[Tensor, Tensor]:
        """Visible and masked patches, [B * V, n] and [B * V, M], for a batch [B * V, C, I, J, K]."""
        grid = token_grid(batch, self.config.backbone.channels, self.config.backbone.patch_size)
        keep, masked = random_masks(generators, views, math.prod(grid), self.config.mask_ratio)
        if batch.device.type == "cuda":  # from pinned memory the host does not wait for the copy
            keep, masked = keep.pin_memory(), masked.pin_memory()
        return keep.to(batch.device, non_blocking=True), masked.to(batch.device, non_blocking=True)

    def _projector(self) -> Projector:
        return Projector(
            width=self.config.backbone.width,
            hidden=self.config.hidden,
            bottleneck=self.config.bottleneck,
            prototypes=self.config.prototypes,
        )


def _assembled(flat: Tensor, like: Tensor, patch_size: tuple[int, int, int]) -> Tensor:
    """The inverse of `patches`: [B, N, D] to the shape of `like` [B, C, I, J, K]."""
    grid = token_grid(like, like.shape[1], patch_size)
    cells = flat.unflatten(2, (like.shape[1], *patch_size)).unflatten(1, grid)  # [B, i, j, k, C, patch]
    return cells.permute(0, 4, 1, 5, 2, 6, 3, 7).reshape(like.shape)
