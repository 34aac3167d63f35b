"""Refining a plan: a coordinator that owns a study, workers that train its trials, and an honest end."""
