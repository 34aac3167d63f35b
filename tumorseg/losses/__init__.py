"""Losses and the registry that builds them."""
