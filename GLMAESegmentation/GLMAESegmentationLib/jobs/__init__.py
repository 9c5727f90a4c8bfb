"""What runs in the engine for minutes or hours: training, segmenting, checking labels."""
