"""A run: its device, processes, data and network, its folder, its checkpoints and what they start from."""
