"""A finished plan, read: explained, compared, examined."""
