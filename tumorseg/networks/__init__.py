"""Networks and the registry that builds them."""
