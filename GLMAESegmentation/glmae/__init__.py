"""GLMAE engine: self-supervised pre-training and few-label segmentation of 3D medical scans.

Nothing here imports Slicer, VTK or Qt. Importing this package alone does not import torch either.
"""

__version__ = "0.1.0"
