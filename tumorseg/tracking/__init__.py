"""Reports of a run while it goes on."""
