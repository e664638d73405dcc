"""Multi-prototype baseline: each class and the background by k centres of their support features."""
