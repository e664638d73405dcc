"""A run: its data, network and weights, its folder, and the room on the disk."""
