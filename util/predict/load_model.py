"""Load a checkpoint into a network that is ready to predict: config, weights, device, and the rule of its input."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import RLock
from typing import Any

import numpy as np
import torch
from torch import Tensor

from model.contract import FewShotModel
from model.registry import class_of, every_model
from util.checkpoints import checkpoint
from util.checkpoints.weights import Weights, load_weights
from util.config.read import from_dict, read_config
from util.data.images.views import OF_PHOTOS, View, channels_first
from util.data.words.text import NO_TEXT
from util.errors import UserError
from util.files import REPOSITORY
from util.run.context import RunContext, make_run_context
from util.run.device import autocast, pick_device, resolved
from util.run.network import prepare_network

SHIPPED = REPOSITORY / "initmodel" / "pocket_lite0_voc.safetensors"  # the weights where no model is named
MAX_SIDE = 2049  # pixels of the network's input; memory grows with its square, in some models with its fourth power


@dataclass
class LoadedModel:
    """A network in evaluation mode on its device, and the view that makes photos its input, as in the evaluation."""

    context: RunContext
    network: FewShotModel
    device: torch.device
    view: View
    weights: Weights  # where those of the network came from
    note: str = ""  # a line that says which model was taken where none was named
    lock: Any = field(default_factory=RLock)  # shared by the models that share an encoder

    @contextmanager
    def forward_pass(self) -> Iterator[None]:
        """Enclose a forward pass: in ``run.precision``, one thread at a time, since encoders keep what a pass needs."""
        with self.lock, autocast(self.device, resolved(self.context.config.run.precision, self.device)):
            yield

    def sized(self, image: np.ndarray, label: np.ndarray) -> tuple[Tensor, Tensor]:
        """Return a photo (H, W, 3) uint8 and its label (H, W) as input: (3, S, S) float32 and (S, S) uint8."""
        image, label = self.view.apply(image, label)
        return channels_first(image), torch.from_numpy(np.ascontiguousarray(label))


def load_model(
    weights: str | Path | None,  # a checkpoint; None for the one that ``config`` names; without both, ``SHIPPED``
    config: str | Path | None = None,  # YAML, from this folder or this project's; None for the one in the checkpoint
    overrides: Sequence[str] = (),
    side: int | None = None,
    device: str | None = None,
    keep_base: bool = False,  # take a base stage's checkpoint too, as a network of the method ``for_base_stages``
) -> LoadedModel:
    """Return the network of a checkpoint, ready to predict; arguments as ``Segmenter``.

    UserError: a file cannot be read, weights and config do not fit each other, or device or side cannot be used.
    """
    is_default = weights is None and config is None
    weights = SHIPPED if is_default else weights
    if config is None:
        content = checkpoint.read(str(weights))
        if not checkpoint.is_own(content):
            mend = "to predict with it or export it, name its own, --config config/pascal/X.yaml"
            raise UserError(f"{weights}: carries no config, as checkpoints of this project do; {mend}")
        settings = from_dict(content["config"], str(weights), list(overrides))
        if keep_base and content["stage"] == "base":
            data = replace(settings.data, text=NO_TEXT)
            method = next(cls for cls in every_model().values() if cls.for_base_stages)
            of_method = method.Settings(encoder=settings.model.encoder)  # type: ignore[call-arg]
            settings = replace(settings, data=data, model=of_method)
    else:
        path = Path(config)
        settings = read_config(path if path.parent.exists() else REPOSITORY / path, list(overrides))
    named = settings.test.checkpoint if weights is None else str(weights)
    test = replace(settings.test, fuse="features", checkpoint=named)  # of masks, a network would have one shot
    settings = replace(settings, test=test)
    side = side or settings.data.size
    cls = class_of(settings.model)
    sides = cls.sizes_around(side, settings.model)
    if side != settings.data.size and (side != sides[0] or side != cls.nearest_side(side, settings.model)):
        near = f"nearest: {', '.join(map(str, sides))}; as trained: {settings.data.size}"
        raise UserError(f"--resize {side}: the model does not take this side; {near}")
    context = make_run_context(settings)
    torch_device = pick_device(device or settings.run.device)
    network, loaded = load_weights(context, side)
    prepare_network(network, torch_device, settings.run.precision)  # not compiled: a few photos do not repay it
    trained = f"trained on the {len(settings.data.classes)} classes of {settings.data.name}"
    note = f"no --checkpoint: uses {context.model_class.title}, {trained}" if is_default else ""
    return LoadedModel(context, network.eval(), torch_device, View(OF_PHOTOS, side, side), loaded, note)
