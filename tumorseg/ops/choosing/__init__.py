"""The choice among ensembles, thresholds and postprocessing, from tables of scores."""
