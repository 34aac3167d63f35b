"""Families of networks: what the planner asks of each."""
