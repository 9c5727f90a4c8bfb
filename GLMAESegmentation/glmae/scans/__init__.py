"""Scans and labels: reading, geometry, classes, preparation for the network. SimpleITK, numpy and pydicom only, no torch."""
