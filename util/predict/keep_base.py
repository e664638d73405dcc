"""``--keep-base``: the base classes of a network's own classifier and the new ones of the supports in one mask.

Base objects on supports count as background.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from model.generalised import GeneralisedModel
from model.mismatch import Mismatch
from util.errors import UserError
from util.predict.encoded_class import EncodedClass
from util.predict.load_model import OVER_BASE, LoadedModel


class KeptBase:
    """The base classes of a network, which have no supports, and new ones beside them.

    Raises:
        UserError: the network has no base classes, or not those that its config names.
    """

    def __init__(self, model: LoadedModel):
        network, data = model.network, model.context.config.data
        if network.base_classifier is None or model.context.config.test.trained_on is not None:
            holder = f"{model.weights.source} ({network.title})"
            raise UserError(f"--keep-base: {holder} has no classifier of base classes; name a base stage's best.pth")
        new = OVER_BASE(OVER_BASE.Settings(), network.task, network)
        self.method = network if isinstance(network, GeneralisedModel) else new
        self.classes = [EncodedClass(data.classes[i - 1], i, None, "", [], []) for i in model.context.fold.base]
        self.model, self._fits = model, dict[int, Any]()

    @torch.inference_mode()
    def margins(self, query: Tensor, valid: Tensor, classes: Sequence[EncodedClass]) -> Tensor:
        """Return each class's logit minus the background's, (B, N + n, S, S) float32, for inputs (B, 3, S, S).

        ``valid`` (B, S, S) bool is False in their padding. The first call for so many classes fits the new ones.

        Raises:
            UserError: an object covers too few cells.
        """
        new = classes[len(self.classes) :]
        with self.model.forward_pass():
            if new and len(new) not in self._fits:
                first = len(self.classes) + 1
                labels = [torch.where(c.labels[0] == 1, i, c.labels[0]) for i, c in enumerate(new, first)]
                try:
                    self._fits[len(new)] = self.method.fit([known.images[0] for known in new], labels)
                except Mismatch as error:
                    names = ", ".join(f"{i} {known.name}" for i, known in enumerate(new, 1))
                    raise UserError(f"{error} (novel classes: {names})") from None
            logits = self.method.predict(query, valid, self._fits.get(len(new)))
        return logits[:, 1:] - logits[:, :1]
