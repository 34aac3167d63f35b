"""Weights of one network in another: whose names they have, what fits, and how the rest is fitted."""
