"""The report of scores: tables, plots and a viewer in one page that works without a network."""
