"""What an episode is: folds, lists, sampling, loading, warping, text vectors."""
