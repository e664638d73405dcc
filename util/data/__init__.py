"""Episodes: folds, lists, sampling, loading, sizing and augmentation, text vectors."""
