"""Trainings that learn from models as well as from the reference."""
