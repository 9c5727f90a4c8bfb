"""The 3D vision transformer that GL-MAE pre-trains and every model is built on."""
