"""What the engine needs on this computer: what is missing, how it is installed and checked."""
