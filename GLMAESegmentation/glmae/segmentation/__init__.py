"""Fine-tuning a segmentation network on a backbone, segmenting scans with it, and scoring the result."""
