"""The paper's head: UNETR (Hatamizadeh et al., WACV 2022, arXiv 2103.10504), built from MONAI's blocks."""

from __future__ import annotations

from collections.abc import Sequence

from monai.networks.blocks.unetr_block import UnetrBasicBlock, UnetrPrUpBlock, UnetrUpBlock
from torch import Tensor, nn

from ...backbone.presets import BackboneConfig

FEATURE_SIZE = 48


class UnetrHead(nn.Module):
    """UNETR's decoder for any isotropic patch 2^L: L levels, skips from L - 1 inner blocks and from the scan itself.

    With patch 16 and depth 12 this is the paper's: skips after blocks 3, 6, 9 (1-based) and the last.

    Args:
        channels: input channels C of the scan.
        classes: number of classes n without background.
        backbone: gives width, depth and patch size.
        feature_size: channels at full resolution; the paper's is 48.
    """

    LAST = ("output",)

    def __init__(self, channels: int, classes: int, backbone: BackboneConfig, feature_size: int = FEATURE_SIZE) -> None:
        super().__init__()
        side = backbone.patch_size[0]
        levels = side.bit_length() - 1
        if len(set(backbone.patch_size)) != 1 or 2**levels != side or levels < 2:
            raise ValueError(f"UNETR needs a cubic patch of 4, 8, 16, ...; this backbone has {backbone.patch_size}")
        self.after = tuple(round(backbone.depth * (level + 1) / levels) - 1 for level in range(levels))
        norm = "instance"
        self.encoder_scan = UnetrBasicBlock(3, channels, feature_size, 3, 1, norm, res_block=True)
        self.encoders = nn.ModuleList(
            UnetrPrUpBlock(
                3,
                backbone.width,
                feature_size * 2**level,
                num_layer=levels - 1 - level,
                kernel_size=3,
                stride=1,
                upsample_kernel_size=2,
                norm_name=norm,
                conv_block=True,
                res_block=True,
            )
            for level in range(1, levels)
        )
        widths = [feature_size * 2**level for level in range(levels)]
        incoming = [*widths[1:], backbone.width]
        self.decoders = nn.ModuleList(
            UnetrUpBlock(3, wide, narrow, 3, 2, norm, res_block=True)
            for narrow, wide in zip(widths, incoming, strict=True)
        )
        self.output = nn.Conv3d(feature_size, classes + 1, kernel_size=1)

    def maps(self, x: Tensor, token_maps: Sequence[Tensor]) -> list[Tensor]:
        """The logits [B, n+1, I, J, K] themselves.

        Args:
            x: the scan, [B, C, I, J, K].
            token_maps: one [B, width, i, j, k] for each block in `after`.
        """
        skips = [self.encoder_scan(x)]
        skips += [encoder(tokens) for encoder, tokens in zip(self.encoders, token_maps[:-1], strict=True)]
        features = token_maps[-1]
        for decoder, skip in zip(reversed(self.decoders), reversed(skips), strict=True):
            features = decoder(features, skip)
        return [self.output(features)]

    def logits(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """The maps, which are the logits."""
        return list(maps)
