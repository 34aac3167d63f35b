"""The largest patch, batch and network that a memory budget allows."""
