"""``--keep-base``: the base classes of a network's own classifier and the new ones of the supports in one mask.

A network that segments by supports finds the new classes as it always does. A pixel of a base class becomes one of a
new class if the new class's presence score is above the base class's probability there; without a calibration none
does. A method over a base stage alone fits new classes among the base ones.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from model.generalised import GeneralisedModel, base_logits
from model.mismatch import Mismatch
from util.errors import UserError
from util.predict.encoded_class import EncodedClass
from util.predict.load_model import LoadedModel


class KeptBase:
    """The base classes of a network, which have no supports.

    Attributes:
        fits: the network, if it fits the new classes among the base ones; else None.

    Raises:
        UserError: the network has no base classes, or not those that its config names.
    """

    def __init__(self, model: LoadedModel):
        network, data = model.network, model.context.config.data
        if network.base_classifier is None or model.context.config.test.trained_on is not None:
            holder = f"{model.weights.source} ({network.title})"
            raise UserError(f"--keep-base: {holder} has no classifier of base classes; name a base stage's best.pth")
        self.fits = network if isinstance(network, GeneralisedModel) else None
        self.classes = [EncodedClass(data.classes[i - 1], i, None, "", [], []) for i in model.context.fold.base]
        self.model, self._states = model, dict[int, Any]()

    @torch.inference_mode()
    def margins(self, query: Tensor, valid: Tensor, new: Sequence[EncodedClass]) -> Tensor:
        """Return the logits of the base classes minus the background's, (B, N, S, S) float32, for inputs (B, 3, S, S).

        Those of the ``new`` classes follow if the network fits them, as it does for so many at the first call.
        ``valid`` (B, S, S) bool is False in the padding. UserError: an object covers too few cells.
        """
        with self.model.forward_pass():
            if self.fits is None:
                logits = base_logits(self.model.network, query)
            else:
                if new and len(new) not in self._states:
                    first = len(self.classes) + 1
                    labels = [torch.where(c.labels[0] == 1, i, c.labels[0]) for i, c in enumerate(new, first)]
                    images, names = zip(*((known.images[0], known.name) for known in new))
                    try:
                        self._states[len(new)] = self.fits.fit(images, labels, names)
                    except Mismatch as error:
                        raise UserError(str(error)) from None
                logits = self.fits.predict(query, valid, self._states.get(len(new)))
        return logits[:, 1:] - logits[:, :1]

    def settle(self, margins: np.ndarray, scores: Sequence[float] | None) -> None:
        """Let new classes win or yield pixels of base classes, in place, by their presence scores.

        ``margins`` (N + n, H, W) are of the base classes, then of the new ones; without ``scores`` none wins a pixel.
        """
        base, new = np.split(margins, [len(self.classes)])
        top = base.max(0)
        of_base = 1 / (np.exp(-top) + np.exp(base - top).sum(0))
        for one, score in zip(new, scores or [0.0] * len(new)):
            one[:] = np.where((top <= 0) | (score > of_base), one + np.maximum(top, 0), np.minimum(one, 0))
