"""The parts of `data check`: a case's channels, its label, all cases together, and what can be mended."""
