"""Segment a user's own photos with a trained network: ``Segmenter({"cup": [(photo, mask)]})(photo).mask``."""

from photos.prediction import Prediction
from photos.segmenter import Segmenter
from util.files.errors import UserError

__all__ = ["Prediction", "Segmenter", "UserError"]
