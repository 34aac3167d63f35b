"""Folds: the cases that are trained on and held out."""
