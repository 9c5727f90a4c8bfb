"""The light decoder of a masked autoencoder (arXiv 2111.06377); parameter names are those of the published code."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..backbone.positions import sine_cosine_positions
from ..backbone.presets import BackboneConfig
from ..backbone.vision_transformer import NORM_EPSILON, Block, initialise

MLP_RATIO = 4.0


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
        initialise(self)

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
