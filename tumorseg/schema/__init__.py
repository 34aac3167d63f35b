"""Frozen records: what the floors hand to each other and what the files hold."""
