"""Choices of a plan, each from the evidence alone."""
