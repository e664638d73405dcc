"""Pixels: reading, orientation, views, augmentation and overlays."""
