"""DIaM: a linear classifier of base and novel classes, fitted to each query."""
