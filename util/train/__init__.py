"""Training: the loop, its two stages, optimisers and schedules."""
