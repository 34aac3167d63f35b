"""Search spaces, samplers, pruning and verdicts: what a trial may change, and what it is worth."""
