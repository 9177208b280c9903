"""What the networks are."""
