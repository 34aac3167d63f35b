"""Self-configuring segmentation of 3D and 2D medical images."""

__version__ = "0.1.0"
