"""What runs, what ran, and whether this machine can: signs of life, `status`, `doctor`."""
