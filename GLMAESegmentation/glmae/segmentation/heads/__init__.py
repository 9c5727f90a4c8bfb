"""Segmentation heads: from the backbone's token maps (and the scan) to class logits.

To add a head, write a module here with the constructor `(channels, classes, backbone: BackboneConfig)`, the attribute
`after` (the blocks whose token maps it wants, 0-based) and `forward(x, token_maps) -> logits at each resolution`, and
name it in `HEADS`.
"""

from __future__ import annotations

from torch import nn

from .hybrid import HybridHead
from .unetr import UnetrHead

DEFAULT_HEAD = "hybrid"
HEADS: dict[str, type[nn.Module]] = {"hybrid": HybridHead, "unetr": UnetrHead}
