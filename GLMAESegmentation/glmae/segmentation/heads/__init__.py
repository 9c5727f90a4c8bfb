"""Segmentation heads: from the backbone's token maps (and the scan) to class logits.

A head is an `nn.Module` made of the scan's channels, the number of classes without background, and the backbone's
configuration. Its `after` names the blocks (0-based) whose token maps it wants. `maps` makes of the scan
[B, C, I, J, K] and of those token maps, each [B, width, i, j, k], the maps that are joined over the windows of a scan;
`logits` makes of these the logits [B, n+1, I, J, K], followed by coarser ones for training.
"""

from __future__ import annotations

from .maps import MapsHead
from .unetr import UnetrHead

DEFAULT_HEAD = "maps"
HEADS: dict[str, type[MapsHead] | type[UnetrHead]] = {"maps": MapsHead, "unetr": UnetrHead}
