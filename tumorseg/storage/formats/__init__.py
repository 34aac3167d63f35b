"""Image formats, each read into one record."""
