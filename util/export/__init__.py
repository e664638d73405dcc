"""Export of a network as graphs that run without this project."""
