"""The fit loop, batches and the sliding window."""
