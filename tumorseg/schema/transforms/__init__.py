"""Records of the transforms that a plan's augmentation may hold."""
