"""Metrics of predictions against their references."""
