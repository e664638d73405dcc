"""Export of a network with its supports as a graph that runs without this project."""
