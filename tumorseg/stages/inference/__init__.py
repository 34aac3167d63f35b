"""Models and the cases that they segment."""
