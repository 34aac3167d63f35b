"""Trust in a case: how far its image is from the training's, and how good its mask is expected to be."""
