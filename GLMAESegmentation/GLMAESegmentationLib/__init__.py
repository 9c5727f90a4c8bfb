"""The Slicer side: MRML nodes to engine cases and results back to nodes. Never imports torch."""
