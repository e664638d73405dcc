"""Which images: folds, indices of class areas, published lists, manifests."""
