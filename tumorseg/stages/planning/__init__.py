"""Verbs that make, read and prove plans."""
