"""BAM: base and meta learner."""
