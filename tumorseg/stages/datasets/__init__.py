"""Verbs on datasets: check, convert, fetch."""
