"""Entry point of ``torch.hub``: ``segmenter``, for photos, whose ``model.network`` is the network.

The names ``model`` and ``util`` are this project's packages for the rest of the process.
"""

from util.packages import NEEDED as _NEEDED
from util.predict.segmenter import Segmenter as segmenter  # noqa: F401

dependencies = _NEEDED.split()
