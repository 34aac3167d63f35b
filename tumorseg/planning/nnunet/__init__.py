"""nnU-Net v2's plans, in both directions."""
