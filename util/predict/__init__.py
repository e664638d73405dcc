"""Segment a user's own photos with a trained model: ``Segmenter(checkpoint, supports)(photo).mask``."""

from util.predict.doubtful import drop_doubtful
from util.predict.prediction import Prediction
from util.predict.segmenter import Segmenter

__all__ = ["Prediction", "Segmenter", "drop_doubtful"]
