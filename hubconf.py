"""Entry points of ``torch.hub``: every method by its name, as a network, and ``segmenter``, for photos.

The names ``model`` and ``util`` are this project's packages for the rest of the process.
"""

from util import NEEDED as _NEEDED
from util.predict.hub import networks as _networks
from util.predict.segmenter import Segmenter as segmenter  # noqa: F401

dependencies = _NEEDED.split()
globals().update(_networks())
