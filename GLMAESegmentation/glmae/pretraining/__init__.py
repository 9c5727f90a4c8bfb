"""GL-MAE self-supervised pre-training; `gl_mae.py` holds the paper's algorithm in the paper's order."""
