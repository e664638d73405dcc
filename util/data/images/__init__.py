"""Pixels: reading, orientation, views and augmentation."""
