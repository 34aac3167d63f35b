"""Intervals, paired tests and rankings of models over cases."""
