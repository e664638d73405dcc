"""What does a trained model see in a person's own photos? Three lines: import, ``Segmenter(...)``, call."""

from util.predict.prediction import Prediction
from util.predict.segmenter import Segmenter

__all__ = ["Prediction", "Segmenter"]
