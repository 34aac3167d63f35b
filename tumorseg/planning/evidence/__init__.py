"""Evidence: the facts about a dataset that planning uses."""
