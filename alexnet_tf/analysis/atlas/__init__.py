"""A static site about one network: its layers, units and images, to be opened from disk."""
