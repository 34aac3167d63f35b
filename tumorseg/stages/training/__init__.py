"""Verbs that train: preprocess, train, validate."""
