"""What of two datasets is the same, whatever each of them calls it: channels, labels, regions."""
