"""Scans and labels: reading, geometry, classes, preparation for the network. SimpleITK and numpy only, no torch."""
