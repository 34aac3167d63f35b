"""From a fingerprint to a plan."""
