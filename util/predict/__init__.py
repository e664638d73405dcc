"""Segment a user's own photos with a trained model: ``Segmenter(checkpoint, supports)(photo).mask``."""

from util.predict.prediction import Prediction
from util.predict.segmenter import Segmenter
from util.predict.support_check import check_supports

__all__ = ["Prediction", "Segmenter", "check_supports"]
