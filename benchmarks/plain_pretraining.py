"""What one would build first: GL-MAE on MONAI's MaskedAutoEncoderViT, eager, with a DataLoader that cuts the views.

The same number and sizes of views, widths, depths, mask ratio, losses, projectors and EMA teacher as ours. For each
sample a volume is loaded and normalized, as a chain of transforms does; views are cut and resized one after the other.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from made_volumes import voxels
from monai.networks.nets import MaskedAutoEncoderViT
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from glmae.devices import autocast
from glmae.pretraining.configuration import PretrainConfig
from glmae.pretraining.gl_mae import (
    Projector,
    consistency_loss,
    normalize_patches,
    teacher_distribution,
    updated_center,
)


class Views(Dataset):
    """Endless: the views of a random neighborhood of a volume, [p, 1, G, G, G] and [q, 1, L, L, L]."""

    def __init__(self, config: PretrainConfig, paths: Sequence[Path], mapped: bool) -> None:
        self.config, self.paths, self.mapped = config, list(paths), mapped
        thinned = [voxels(path)[::4, ::4, ::4].astype(np.float32) for path in self.paths] if mapped else []
        self.scale = [(float(values.mean()), float(values.std())) for values in thinned]

    def __len__(self) -> int:
        return 1_000_000

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        config, random = self.config, np.random.default_rng([self.config.seed, index])
        number = int(random.integers(len(self.paths)))
        volume = voxels(self.paths[number])
        if self.mapped:
            mean, deviation = self.scale[number]
        else:
            volume = volume.astype(np.float32)
            mean, deviation = float(volume.mean()), float(volume.std())
            volume, mean, deviation = (volume - mean) / deviation, 0.0, 1.0
        side = min(round(config.neighborhood * config.backbone.global_view), *volume.shape)
        start = [int(random.integers(full - side + 1)) for full in volume.shape]
        part = volume[tuple(slice(first, first + side) for first in start)].astype(np.float32)
        region = torch.from_numpy((part - mean) / deviation)[None, None]
        return (
            self._cut(region, config.global_views, config.backbone.global_view, config.global_scale, random),
            self._cut(region, config.local_views, config.backbone.local_view, config.local_scale, random),
        )

    def _cut(
        self, region: Tensor, count: int, size: int, scale: tuple[float, float], random: np.random.Generator
    ) -> Tensor:
        views = []
        for _ in range(count):
            side = min(round(size * float(random.uniform(*scale))), region.shape[2])
            i, j, k = (int(random.integers(full - side + 1)) for full in region.shape[2:])
            crop = region[:, :, i : i + side, j : j + side, k : k + side]
            views.append(F.interpolate(crop, size=(size,) * 3, mode="trilinear", align_corners=False)[0])
        jitter = torch.from_numpy(random.uniform(-0.1, 0.1, (count, 2)).astype(np.float32))[
            :, :, None, None, None, None
        ]
        return torch.stack(views) * jitter[:, 0].exp() + jitter[:, 1]


class PlainModel(nn.Module):
    """MONAI's network twice, sharing everything but the positions, because it is made for one size of view."""

    def __init__(self, config: PretrainConfig) -> None:
        super().__init__()
        self.config, backbone = config, config.backbone

        def network(side: int) -> MaskedAutoEncoderViT:
            return MaskedAutoEncoderViT(
                in_channels=backbone.channels,
                img_size=(side,) * 3,
                patch_size=backbone.patch_size,
                hidden_size=backbone.width,
                mlp_dim=round(backbone.width * backbone.mlp_ratio),
                num_layers=backbone.depth,
                num_heads=backbone.heads,
                masking_ratio=config.mask_ratio,
                decoder_hidden_size=backbone.decoder_width,
                decoder_mlp_dim=4 * backbone.decoder_width,
                decoder_num_layers=backbone.decoder_depth,
                decoder_num_heads=backbone.decoder_heads,
                pos_embed_type="learnable",
                decoder_pos_embed_type="learnable",
                qkv_bias=True,
            )

        self.globals, self.locals = network(backbone.global_view), network(backbone.local_view)
        for name in ("blocks", "decoder_embed", "decoder_blocks", "decoder_pred"):
            setattr(self.locals, name, getattr(self.globals, name))
        # Under autocast MONAI's forward writes these into float32 mask tokens, which torch refuses.
        self.globals.decoder_embed.register_forward_hook(lambda module, inputs, tokens: tokens.float())
        self.locals.patch_embedding.patch_embeddings = self.globals.patch_embedding.patch_embeddings
        self.locals.cls_token, self.locals.mask_tokens = self.globals.cls_token, self.globals.mask_tokens
        self.projector = Projector(
            width=backbone.width, hidden=config.hidden, bottleneck=config.bottleneck, prototypes=config.prototypes
        )

    def masked(self, network: MaskedAutoEncoderViT, views: Tensor) -> tuple[Tensor, Tensor]:
        """Reconstruction loss and projected CLS tokens of [B, V, C, ...]; by a hook, MONAI does not return CLS."""
        seen: list[Tensor] = []
        hook = network.blocks.register_forward_hook(lambda module, inputs, tokens: seen.append(tokens[:, 0]))
        batch = views.flatten(0, 1)
        predicted, mask = network(batch)
        hook.remove()
        target = normalize_patches(patches_of(batch, self.config.backbone.patch_size))
        error = (predicted.float() - target).square().mean(dim=2)
        return (error * mask).sum() / mask.sum(), self.projector(seen[0]).unflatten(0, (len(views), -1))

    def complete(self, views: Tensor) -> Tensor:
        """Projected CLS tokens of complete global views."""
        tokens = self.globals.patch_embedding(views.flatten(0, 1))
        tokens = self.globals.blocks(torch.cat([self.globals.cls_token.expand(len(tokens), -1, -1), tokens], dim=1))
        return self.projector(tokens[:, 0]).unflatten(0, (len(views), -1))


class PlainTraining:
    """Steps of the plain build.

    Args:
        config: sizes, weights, rates; the batch.
        paths: volumes.
        device: where.
        workers: processes that cut views.
        teacher: False: reconstruction alone.
        mapped: whether volumes are memory-mapped, as ours, and normalized with known values.
    """

    def __init__(
        self,
        config: PretrainConfig,
        paths: Sequence[Path],
        device: torch.device,
        workers: int,
        teacher: bool,
        mapped: bool,
    ) -> None:
        self.config, self.device = config, device
        self.student = PlainModel(config).to(device)
        self.teacher = copy.deepcopy(self.student).requires_grad_(False) if teacher else None
        self.center = torch.zeros(config.prototypes, device=device)
        self.optimizer = torch.optim.AdamW(
            self.student.parameters(), lr=1e-4, betas=config.betas, weight_decay=config.weight_decay
        )
        loader: DataLoader = DataLoader(
            Views(config, paths, mapped), batch_size=config.batch, num_workers=workers, pin_memory=device.type == "cuda"
        )
        self._batches: Iterator[list[Tensor]] = iter(loader)

    def step(self) -> None:
        config, weights = self.config, self.config.weights
        globals_, locals_ = (views.to(self.device, non_blocking=True) for views in next(self._batches))
        with autocast(self.device):
            global_error, global_cls = self.student.masked(self.student.globals, globals_)
            local_error, local_cls = self.student.masked(self.student.locals, locals_)
            loss = weights.global_reconstruction * global_error + weights.local_reconstruction * local_error
            if self.teacher is not None:
                with torch.no_grad():
                    similarities = self.teacher.complete(globals_)
                anchor = teacher_distribution(similarities, self.center, config.teacher_temperature)
                self.center = updated_center(self.center, similarities, config.center_momentum)
                temperature = config.student_temperature
                loss = loss + weights.global_global * consistency_loss(global_cls, anchor, temperature)
                loss = loss + weights.global_local * consistency_loss(local_cls, anchor, temperature)
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.student.parameters(), config.clip)
        self.optimizer.step()
        if self.teacher is not None:
            with torch.no_grad():
                for follower, leader in zip(self.teacher.parameters(), self.student.parameters(), strict=True):
                    follower.mul_(config.ema_start).add_(leader, alpha=1 - config.ema_start)


def patches_of(batch: Tensor, patch: Sequence[int]) -> Tensor:
    """[B, C, I, J, K] -> [B, N, C * patch voxels]."""
    i, j, k = (side // step for side, step in zip(batch.shape[2:], patch, strict=True))
    cells = batch.reshape(len(batch), batch.shape[1], i, patch[0], j, patch[1], k, patch[2])
    return cells.permute(0, 2, 4, 6, 1, 3, 5, 7).reshape(len(batch), i * j * k, -1)
