"""The backbone: a pre-norm vision transformer on 3D patches, seeing visible tokens only (arXiv 2010.11929, 2111.06377).

Parameter names are those of the published GL-MAE checkpoint.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..backend_cpu import attend
from .positions import interpolate_positions, sine_cosine_positions
from .presets import BackboneConfig

NORM_EPSILON = 1e-6


class VisionTransformer(nn.Module):
    """Scan to tokens."""

    pos_embed: Tensor

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        self.config = config
        self.cls_token = nn.Parameter(torch.zeros(1, 1, config.width))
        self.register_buffer("pos_embed", sine_cosine_positions(config.width, config.grid, config.patch_size))
        self.patch_embed = PatchEmbedding(config.channels, config.patch_size, config.width)
        self.blocks = nn.ModuleList(Block(config.width, config.heads, config.mlp_ratio) for _ in range(config.depth))
        self.norm = nn.LayerNorm(config.width, eps=NORM_EPSILON)
        self._tables: dict[tuple[tuple[int, int, int], torch.device], Tensor] = {}
        self.register_load_state_dict_post_hook(_forget_tables)
        nn.init.trunc_normal_(self.cls_token, std=0.02)
        initialize(self)

    def forward(self, x: Tensor, keep: Tensor | None = None, cls_only: bool = False) -> Tensor:
        """Normalized tokens, CLS first.

        Args:
            x: [B, C, I, J, K]; each side a multiple of the patch.
            keep: indices [B, n] of the visible patches (row-major, K fastest); the others are never read. None: all.
            cls_only: whether the last block may leave out all tokens but CLS.

        Returns:
            [B, 1 + n, width], tokens in the order of `keep`; or CLS, [B, 1, width].

        Raises:
            ValueError: wrong number of channels, or a side that is not a multiple of the patch.
        """
        tokens = self._embed(x, keep)
        for block in self.blocks[:-1]:
            tokens = block(tokens)
        tokens = self.blocks[-1](tokens, 1 if cls_only else None)
        normalized: Tensor = self.norm(tokens)
        return normalized

    def features(self, x: Tensor, after: Sequence[int]) -> list[Tensor]:
        """Token maps of a complete scan after some blocks, for segmentation heads.

        Args:
            x: [B, C, I, J, K]; each side a multiple of the patch.
            after: blocks, 0-based, each at most once; the last block's map is normalized. Later blocks are not run.

        Returns:
            One [B, width, i, j, k] for each entry of `after`, in its order.
        """
        if not after or not all(0 <= index < len(self.blocks) for index in after):
            raise ValueError(
                f"blocks {tuple(after)} asked for, but the backbone has blocks 0 to {len(self.blocks) - 1}"
            )
        grid = self.token_grid(x)
        tokens = self._embed(x, None)
        maps: dict[int, Tensor] = {}
        for index, block in enumerate(self.blocks[: max(after) + 1]):
            tokens = block(tokens)
            if index in after:
                kept = self.norm(tokens) if index == len(self.blocks) - 1 else tokens
                maps[index] = kept[:, 1:].transpose(1, 2).unflatten(2, grid)  # [B, width, i, j, k]
        return [maps[index] for index in after]

    def token_grid(self, x: Tensor) -> tuple[int, int, int]:
        """Tokens of `x` [B, C, I, J, K] along I, J, K."""
        return token_grid(x, self.config.channels, self.config.patch_size)

    def positions(self, grid: tuple[int, int, int]) -> Tensor:
        """The position table [1, 1 + tokens, width] of `grid`.

        The stored table is used on its own grid. Elsewhere, the formula is evaluated; a stored table that is not the
        formula's (a foreign checkpoint's) is interpolated instead.
        """
        if grid == tuple(self.config.grid):
            return self.pos_embed
        key = (grid, self.pos_embed.device)
        if key not in self._tables:
            with torch.no_grad():
                width, patch = self.config.width, self.config.patch_size
                own = sine_cosine_positions(width, self.config.grid, patch).to(self.pos_embed)
                if torch.allclose(own, self.pos_embed, rtol=0, atol=1e-2):  # fp16 files hold it to three digits
                    table = sine_cosine_positions(width, grid, patch).to(self.pos_embed)
                else:
                    table = interpolate_positions(self.pos_embed, self.config.grid, grid)
            self._tables[key] = table
        return self._tables[key]

    def _embed(self, x: Tensor, keep: Tensor | None) -> Tensor:
        table = self.positions(self.token_grid(x))
        tokens = self.patch_embed(x, keep)
        places = table[:, 1:] if keep is None else table[0, 1:][keep]
        cls = (self.cls_token + table[:, :1]).expand(len(x), -1, -1)
        return torch.cat([cls, (tokens + places).to(cls.dtype)], dim=1)  # [B, 1 + n, width]


class PatchEmbedding(nn.Module):
    """Linear projection of patches; its weight is stored as that of a Conv3d with kernel = stride = patch."""

    def __init__(self, channels: int, patch_size: tuple[int, int, int], width: int) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.proj = nn.Conv3d(channels, width, kernel_size=patch_size, stride=patch_size)

    def forward(self, x: Tensor, keep: Tensor | None = None) -> Tensor:
        """Tokens [B, n, width] of the patches `keep` [B, n], or of all patches, of `x` [B, C, I, J, K]."""
        return F.linear(patches(x, self.patch_size, keep), self.proj.weight.flatten(1), self.proj.bias)


class Block(nn.Module):
    """Attention and MLP, each on normalized tokens and added to them."""

    def __init__(self, width: int, heads: int, mlp_ratio: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=NORM_EPSILON)
        self.attn = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=NORM_EPSILON)
        self.mlp = MLP(width, round(width * mlp_ratio))

    def forward(self, tokens: Tensor, asking: int | None = None) -> Tensor:
        """[B, N, width] -> [B, N, width]; or of the first `asking` tokens only, which look at all."""
        tokens = tokens[:, :asking] + self.attn(self.norm1(tokens), asking)
        return tokens + self.mlp(self.norm2(tokens))


class Attention(nn.Module):
    """Multi-head self-attention, queries, keys and values from one projection with bias."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"width {width} does not divide into {heads} heads")
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, tokens: Tensor, asking: int | None = None) -> Tensor:
        """[B, N, width] -> [B, N, width]; or of the first `asking` tokens only, which look at all."""
        if asking is None:
            qkv = self.qkv(tokens).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
            query, key, value = qkv.unbind(0)  # [B, heads, N, width/heads] each
        else:
            width = tokens.shape[2]
            weight, bias = self.qkv.weight, self.qkv.bias
            query = F.linear(tokens[:, :asking], weight[:width], bias[:width])
            query = query.unflatten(2, (self.heads, -1)).transpose(1, 2)  # [B, heads, asking, width/heads]
            seen = F.linear(tokens, weight[width:], bias[width:])
            key, value = seen.unflatten(2, (2, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        mixed = attend(query, key, value)  # [B, heads, N, width/heads]
        projected: Tensor = self.proj(mixed.transpose(1, 2).flatten(2))
        return projected


class MLP(nn.Module):
    """Two linear layers with an exact GELU between them."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """[B, N, width] -> [B, N, width]."""
        out: Tensor = self.fc2(F.gelu(self.fc1(tokens)))
        return out


def token_grid(x: Tensor, channels: int, patch_size: Sequence[int]) -> tuple[int, int, int]:
    """Tokens of `x` [B, C, I, J, K] along I, J, K.

    Raises:
        ValueError: wrong number of channels, or a side that is not a multiple of the patch.
    """
    if x.ndim != 5 or x.shape[1] != channels:
        raise ValueError(f"expected a batch [B, {channels}, I, J, K], got {list(x.shape)}")
    sides = x.shape[2:]
    if any(side == 0 or side % patch for side, patch in zip(sides, patch_size, strict=True)):
        raise ValueError(
            f"scan of {list(sides)} voxels: each side must be a multiple of the patch {list(patch_size)}; pad it"
        )
    return sides[0] // patch_size[0], sides[1] // patch_size[1], sides[2] // patch_size[2]


def patches(x: Tensor, patch_size: Sequence[int], keep: Tensor | None = None) -> Tensor:
    """Flattened patches; of the scan only the patches asked for are copied.

    Args:
        x: [B, C, I, J, K]; each side a multiple of the patch.
        patch_size: voxels of a patch along I, J, K.
        keep: indices [B, n] of patches (row-major, K fastest); None: all.

    Returns:
        [B, n, C * patch voxels]; values in the order of a Conv3d weight: channel, I, J, K.
    """
    grid = token_grid(x, x.shape[1], patch_size)
    view = x.unflatten(4, (grid[2], patch_size[2])).unflatten(3, (grid[1], patch_size[1]))
    view = view.unflatten(2, (grid[0], patch_size[0])).permute(0, 2, 4, 6, 1, 3, 5, 7)  # [B, i, j, k, C, patch]
    if keep is None:
        return view.flatten(4).flatten(1, 3)
    batch = torch.arange(len(x), device=x.device)[:, None]
    row = torch.div(keep, grid[2], rounding_mode="floor")
    visible = view[batch, torch.div(row, grid[1], rounding_mode="floor"), row % grid[1], keep % grid[2]]
    return visible.flatten(2)


def initialize(module: nn.Module) -> None:
    """MAE's initialization: Xavier uniform for linear layers and the patch projection, zero biases."""
    for part in module.modules():
        if isinstance(part, nn.Linear | nn.Conv3d):
            nn.init.xavier_uniform_(part.weight.view(len(part.weight), -1))
            if part.bias is not None:
                nn.init.zeros_(part.bias)


def _forget_tables(module: Any, _: Any) -> None:
    module._tables.clear()
