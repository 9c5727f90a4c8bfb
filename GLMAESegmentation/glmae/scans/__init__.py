"""Scans and labels: reading, geometry, classes, preparation for the network. No torch: SimpleITK, numpy, pydicom."""
