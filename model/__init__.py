"""What a network computes: tensors in, tensors out. Nothing here knows files, folds or devices."""
