"""Segmentation heads: from the backbone's token maps (and the scan) to class logits.

A head is an `nn.Module` made of the scan's channels, the number of classes without background, and the backbone's
configuration. Its `after` names the blocks (0-based) whose token maps it wants. Called with the scan [B, C, I, J, K]
and those maps, each [B, width, i, j, k], it gives logits [B, n+1, I, J, K], followed by coarser ones while training.
"""

from __future__ import annotations

from .subvoxel import SubvoxelHead
from .unetr import UnetrHead

DEFAULT_HEAD = "subvoxel"
HEADS: dict[str, type[SubvoxelHead] | type[UnetrHead]] = {"subvoxel": SubvoxelHead, "unetr": UnetrHead}
