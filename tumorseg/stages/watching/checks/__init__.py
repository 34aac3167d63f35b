"""Checks of `doctor`: each takes what was measured and returns what it means."""
