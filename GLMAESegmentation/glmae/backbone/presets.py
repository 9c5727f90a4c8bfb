"""Sizes of the backbone: the paper's and two smaller ones for laptops and small anatomy."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..errors import RequestError
from ..json_record import JsonRecord


@dataclass(frozen=True, kw_only=True)
class BackboneConfig(JsonRecord):
    """The shape of a vision transformer, its decoder in pre-training, and the views it is pre-trained on.

    Attributes:
        patch_size: voxels of one token along I, J, K.
        width: length of a token.
        heads: attention heads; a divisor of `width`.
        mlp_ratio: hidden width of a block's MLP, in widths.
        grid: tokens along I, J, K of the stored position table; any other grid works too.
        global_view: side of a global view, voxels.
        local_view: side of a local view, voxels.
        decoder_width: width of the reconstruction decoder.
    """

    name: str
    channels: int
    patch_size: tuple[int, int, int]
    width: int
    depth: int
    heads: int
    mlp_ratio: float = 4.0
    grid: tuple[int, int, int]
    global_view: int
    local_view: int
    decoder_width: int
    decoder_depth: int
    decoder_heads: int

    @property
    def patch_voxels(self) -> int:
        """Values in one patch, all channels."""
        return self.channels * self.patch_size[0] * self.patch_size[1] * self.patch_size[2]


# base: the published ViT-B/16 and MAE's decoder. tiny and small are our choice: small patches matter for segmentation
# (arXiv 2507.01744), and a decoder below half the encoder's cost is enough for MAE (arXiv 2111.06377, table 1).
PRESETS: dict[str, BackboneConfig] = {
    "tiny": BackboneConfig(
        name="tiny",
        channels=1,
        patch_size=(8, 8, 8),
        width=192,
        depth=6,
        heads=3,
        grid=(4, 4, 4),
        global_view=64,
        local_view=32,
        decoder_width=96,
        decoder_depth=2,
        decoder_heads=3,
    ),
    "small": BackboneConfig(
        name="small",
        channels=1,
        patch_size=(8, 8, 8),
        width=384,
        depth=8,
        heads=6,
        grid=(6, 6, 6),
        global_view=96,
        local_view=48,
        decoder_width=192,
        decoder_depth=4,
        decoder_heads=6,
    ),
    "base": BackboneConfig(
        name="base",
        channels=1,
        patch_size=(16, 16, 16),
        width=768,
        depth=12,
        heads=12,
        grid=(6, 6, 6),
        global_view=160,
        local_view=96,
        decoder_width=512,
        decoder_depth=8,
        decoder_heads=16,
    ),
}


def preset(name: str, *, channels: int = 1) -> BackboneConfig:
    """The configuration called `name`, for scans of `channels` channels.

    Raises:
        RequestError: there is no such preset.
    """
    if name not in PRESETS:
        raise RequestError(f"there is no backbone preset '{name}'; choose one of {', '.join(PRESETS)}")
    return replace(PRESETS[name], channels=channels)
