"""Dataset layouts, each read into one Dataset."""
