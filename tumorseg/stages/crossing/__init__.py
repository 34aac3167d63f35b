"""Models on datasets that they were not made for: the matrix of cross-evaluation."""
