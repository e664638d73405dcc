"""Episodes: lists, sampling, data sets, sizing and augmentation, text vectors."""
