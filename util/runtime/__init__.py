"""Every run needs these: its config with fold and texts, device, processes, network, data by number, folders."""
