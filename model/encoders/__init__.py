"""Image encoders: networks, their features, the layouts of their weight files."""
