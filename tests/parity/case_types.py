"""Types that the hooks of all methods share."""

from __future__ import annotations

import numpy as np
from torch import Tensor

Case, Seen = dict[str, np.ndarray], dict[str, Tensor]
