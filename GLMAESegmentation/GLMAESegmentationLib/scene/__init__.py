"""The MRML scene: its scans and segmentations as cases, and back; what the user chose; the sample scans."""
