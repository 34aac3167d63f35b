"""What a dataset is, as far as planning needs to know."""
