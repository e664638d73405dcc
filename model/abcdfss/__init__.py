"""ABCDFSS: heads on an ImageNet encoder that are fitted to the images of an episode."""
