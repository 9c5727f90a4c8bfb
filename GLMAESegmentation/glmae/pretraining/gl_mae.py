"""GL-MAE (Zhuang et al., arXiv 2306.08913, IEEE TMI 2025): the paper's algorithm in its order and with its symbols.

Written from the description of the method. What the paper leaves open is a field of `PretrainConfig`. First the
algorithm (`GLMAE`), then its parts: masks, decoder, projector, losses. All losses are computed in float32, within
autocast too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.swa_utils import get_ema_multi_avg_fn

from ..backbone.positions import sine_cosine_positions
from ..backbone.presets import BackboneConfig
from ..backbone.vision_transformer import NORM_EPSILON, Block, VisionTransformer, initialize, patches, token_grid
from .configuration import PretrainConfig
from .further_term import MakeTerm

MLP_RATIO = 4.0
PATCH_EPSILON, SPREAD_EPSILON = 1e-6, 1e-4


@dataclass(frozen=True)
class Losses:
    """The terms, unweighted, and their weighted sum; scalars. A term that is switched off is None."""

    total: Tensor
    local_reconstruction: Tensor | None
    global_reconstruction: Tensor | None
    global_global: Tensor | None
    global_local: Tensor | None
    spread: Tensor | None = None
    further: Tensor | None = None

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
    """One student, one decoder, and a teacher that follows the student."""

    center: Tensor

    def __init__(self, config: PretrainConfig, further: MakeTerm | None = None) -> None:
        super().__init__()
        self.config = config
        self.student = VisionTransformer(config.backbone)
        self.decoder = Decoder(config.backbone)
        self.student_projector: Projector | None = None  # P_s
        self.teacher: VisionTransformer | None = None
        self.teacher_projector: Projector | None = None  # P_m
        self.register_buffer("center", torch.zeros(config.prototypes if config.uses_teacher else 0))
        if config.uses_teacher:
            self.student_projector = self._projector()
            self.teacher = VisionTransformer(config.backbone)
            self.teacher_projector = self._projector()
            # Copies of the student's that never get gradients.
            self.teacher.load_state_dict(self.student.state_dict())
            self.teacher_projector.load_state_dict(self.student_projector.state_dict())
            self.teacher.requires_grad_(False)
            self.teacher_projector.requires_grad_(False)
        self.further = None if further is None else further(config.backbone)

    def forward(
        self,
        global_views: Tensor | None,
        local_views: Tensor | None,
        generators: Sequence[torch.Generator],
        further: Sequence[Tensor] = (),
        teacher_views: Tensor | None = None,
    ) -> Losses:
        """One step's losses. In training mode the center moves on.

        Args:
            global_views: [B, p, C, G, G, G]; may be None where no term needs them.
            local_views: [B, q, C, L, L, L]; may be None where no term needs them.
            generators: one CPU generator for each of the B volumes, for the masks.
            further: what the further term has read of the volumes, stacked.
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
            anchor = teacher_distribution(similarities, self.center, config.teacher_temperature)

            # 3. Global-to-global consistency: the teacher's complete global views anchor the student's masked ones.
            if globals_.similarities is not None:
                global_global = consistency_loss(globals_.similarities, anchor, config.student_temperature)

            # 4. Global-to-local consistency: the same anchor for the student's masked local views.
            if locals_.similarities is not None:
                global_local = consistency_loss(locals_.similarities, anchor, config.student_temperature)

            # The center keeps the teacher from choosing one prototype for everything.
            if self.training:
                with torch.no_grad():
                    self.center.copy_(updated_center(self.center, similarities, config.center_momentum))

        # Our extension: student and teacher could agree by telling no volume from another, so volumes are kept apart.
        spread = None
        if config.weights.spread > 0 and globals_.cls is not None and len(globals_.cls) > 1:
            spread = spread_loss(globals_.cls)

        # Whatever else is asked for.
        further_term: Tensor | None = None if self.further is None else self.further(self.student, *further)

        # 5. The loss is the weighted sum of the terms.
        terms = {
            "local_reconstruction": locals_.reconstruction,
            "global_reconstruction": globals_.reconstruction,
            "global_global": global_global,
            "global_local": global_local,
            "spread": spread,
        }
        weighted = [getattr(weights, name) * term for name, term in terms.items() if term is not None]
        if self.further is not None and further_term is not None:
            weighted.append(self.further.weight * further_term)
        terms["further"] = further_term
        return Losses(total=torch.stack(weighted).sum(), **terms)

    @torch.no_grad()
    def update_teacher(self, momentum: float) -> None:
        """6. After the student's step the teacher follows: teacher <- momentum * teacher + (1 - momentum) * student."""
        if self.teacher is None or self.teacher_projector is None or self.student_projector is None:
            return
        follow = get_ema_multi_avg_fn(momentum)
        follow(list(self.teacher.parameters()), list(self.student.parameters()), 0)
        follow(list(self.teacher_projector.parameters()), list(self.student_projector.parameters()), 0)

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
            if self.config.normalize_patches:
                target = normalize_patches(target)
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


def masked_count(tokens: int, ratio: float) -> int:
    """How many of `tokens` patches are masked: the nearest to `ratio`, with at least one masked and one visible."""
    if tokens < 2:
        raise ValueError(f"a view of {tokens} patch cannot be masked; it needs at least two")
    return min(max(round(tokens * ratio), 1), tokens - 1)


def random_masks(generators: Sequence[torch.Generator], views: int, tokens: int, ratio: float) -> tuple[Tensor, Tensor]:
    """Draw which patches stay visible, each set of patches with equal probability.

    Args:
        generators: one CPU generator for each of B volumes.
        views: views V of each volume.
        tokens: patches N of a view.
        ratio: share that is masked, 0-1.

    Returns:
        Indices of the visible patches, int64 [B * V, N - M], and of the masked ones, [B * V, M]; both ascending.
    """
    order = torch.cat([torch.rand(views, tokens, generator=generator).argsort(dim=1) for generator in generators])
    visible = tokens - masked_count(tokens, ratio)
    return order[:, :visible].sort(dim=1).values, order[:, visible:].sort(dim=1).values


class Decoder(nn.Module):
    """Visible tokens to predicted voxels of every patch."""

    decoder_pos_embed: Tensor

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        self.config = config
        width = config.decoder_width
        self.mask_token = nn.Parameter(torch.zeros(1, 1, width))
        self.register_buffer("decoder_pos_embed", sine_cosine_positions(width, config.grid, config.patch_size))
        self.decoder_embed = nn.Linear(config.width, width)
        self.decoder_blocks = nn.ModuleList(
            Block(width, config.decoder_heads, MLP_RATIO) for _ in range(config.decoder_depth)
        )
        self.decoder_norm = nn.LayerNorm(width, eps=NORM_EPSILON)
        self.decoder_pred = nn.Linear(width, config.patch_voxels)
        self._tables: dict[tuple[tuple[int, int, int], torch.device], Tensor] = {}
        nn.init.trunc_normal_(self.mask_token, std=0.02)
        initialize(self)

    def forward(self, tokens: Tensor, keep: Tensor, grid: tuple[int, int, int], asked: Tensor) -> Tensor:
        """Predict some patches from the visible ones.

        Args:
            tokens: encoder output [B, 1 + n, width], CLS first.
            keep: which patches the tokens 1..n are, [B, n].
            grid: patches along I, J, K; N in all.
            asked: indices [B, M] of the patches to predict.

        Returns:
            [B, M, C * patch voxels], values in the order of `patches`.
        """
        visible = self.decoder_embed(tokens)  # [B, 1 + n, decoder width]
        count = grid[0] * grid[1] * grid[2]
        filled = self.mask_token.to(visible.dtype).expand(len(visible), count, -1)
        places = keep[:, :, None].expand(-1, -1, visible.shape[2])
        filled = torch.cat([visible[:, :1], filled.scatter(1, places, visible[:, 1:])], dim=1)
        filled = filled + self._positions(grid)  # [B, 1 + N, decoder width]
        for block in self.decoder_blocks:
            filled = block(filled)
        places = 1 + asked[:, :, None].expand(-1, -1, visible.shape[2])
        predicted: Tensor = self.decoder_pred(self.decoder_norm(filled.gather(1, places)))
        return predicted

    def _positions(self, grid: tuple[int, int, int]) -> Tensor:
        if grid == tuple(self.config.grid):
            return self.decoder_pos_embed
        key = (grid, self.decoder_pos_embed.device)
        if key not in self._tables:
            table = sine_cosine_positions(self.config.decoder_width, grid, self.config.patch_size)
            self._tables[key] = table.to(self.decoder_pos_embed)
        return self._tables[key]


class Projector(nn.Module):
    """Three linear layers, a unit-length bottleneck, and cosine similarities to the prototypes.

    Args:
        hidden: width of the two hidden layers.
        bottleneck: length of the vector that is compared with the prototypes.
        prototypes: number of prototypes K.
    """

    def __init__(self, *, width: int, hidden: int, bottleneck: int, prototypes: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, hidden), nn.GELU(), nn.Linear(hidden, bottleneck)
        )
        # Only its direction counts: it is scaled to unit rows in forward().
        self.prototypes = nn.Parameter(torch.empty(prototypes, bottleneck))
        for layer in self.mlp:
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=0.02)
                nn.init.zeros_(layer.bias)
        nn.init.normal_(self.prototypes)

    def forward(self, cls: Tensor) -> Tensor:
        """[B, width] -> similarities in -1..1, [B, K]."""
        bottleneck = self.mlp(cls)
        with torch.autocast(cls.device.type, enabled=False):
            # In half precision, the temperature of 0.04 would magnify the rounding 25 times.
            return F.linear(F.normalize(bottleneck.float(), dim=-1), F.normalize(self.prototypes, dim=-1))


def reconstruction_loss(predicted: Tensor, target: Tensor) -> Tensor:
    """Mean squared error over the masked patches (arXiv 2111.06377), both [B, M, D]."""
    return F.mse_loss(predicted.float(), target.float())


def normalize_patches(patches: Tensor) -> Tensor:
    """Each patch [..., D] with mean 0 and variance 1, as MAE's targets; a constant patch becomes zero."""
    variance, mean = torch.var_mean(patches.float(), dim=-1, keepdim=True)
    return (patches - mean) / (variance + PATCH_EPSILON).sqrt()


def teacher_distribution(similarities: Tensor, center: Tensor, temperature: float) -> Tensor:
    """The teacher's centered and sharpened choice of prototypes.

    Args:
        similarities: [..., K], from the teacher's projector.
        center: [K], the running mean of such similarities.
        temperature: the lower, the sharper.

    Returns:
        Probabilities [..., K].
    """
    return F.softmax((similarities.float() - center) / temperature, dim=-1)


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


def updated_center(center: Tensor, similarities: Tensor, momentum: float) -> Tensor:
    """The running mean [K] of the teacher's similarities [..., K] after one more batch."""
    return center * momentum + similarities.float().flatten(0, -2).mean(dim=0) * (1 - momentum)


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
