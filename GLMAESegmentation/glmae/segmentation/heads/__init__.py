"""Segmentation heads: from the backbone's token maps (and the scan) to class logits.

To add a head, write a module here with a class derived from `Head`, and name it in `HEADS`.
"""

from __future__ import annotations

from .head import Head
from .hybrid import HybridHead
from .subvoxel import SubvoxelHead
from .unetr import UnetrHead

DEFAULT_HEAD = "subvoxel"
HEADS: dict[str, type[Head]] = {"subvoxel": SubvoxelHead, "hybrid": HybridHead, "unetr": UnetrHead}
