"""Load a checkpoint into a network that is ready to predict: config, weights, device, and the rule of its input."""

import hashlib
import re
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
from util.checkpoints.run import Run
from util.checkpoints.weights import Weights, load_weights
from util.config.read import from_checkpoint, read_config
from util.config.settings import Config
from util.config.tree import override
from util.data.images.views import OF_PHOTOS, View, channels_first
from util.data.words.text import NO_TEXT
from util.errors import UserError
from util.evaluate.store import ShotStore
from util.files import REPOSITORY
from util.runtime.context import with_data
from util.runtime.device import autocast, pick_device, precision_of_test
from util.runtime.network import prepare_network

SHIPPED = REPOSITORY / "initmodel" / "pocket_lite0_voc.safetensors"  # the weights where no model is named
COCO_NAMES = {"airplane", "couch", "motorcycle", "tv"}  # of classes of VOC, where they differ
OUTLOOK = (
    "of an object outside the 20 classes of PASCAL VOC, on which these weights were trained, expect about 27 mIoU: "
    "annotate more photos, or take INSID3 on DINOv2 or SAM 3 (docs/predict.md)"
)
KEPT_GIB = 1.0  # of shots of supports
MAX_SIDE = 2049  # pixels of the network's input; memory grows with its square, in some models with its fourth power


@dataclass
class LoadedModel:
    """A network in evaluation mode on its device, and the view that makes photos its input, as in the evaluation."""

    run: Run  # whose ``test.checkpoint`` names the weights
    network: FewShotModel
    device: torch.device
    precision: str
    view: View
    weights: Weights  # where those of the network came from
    note: str = ""  # a line that says which model was taken where none was named
    lock: Any = field(default_factory=RLock)  # shared by the models that share an encoder
    store: ShotStore = field(init=False, default_factory=lambda: ShotStore(KEPT_GIB))

    def __post_init__(self) -> None:
        self.store.use_for(self.network)

    @contextmanager
    def forward_pass(self) -> Iterator[None]:
        """Enclose a forward pass: in its precision, one thread at a time, since encoders keep what a pass needs."""
        with self.lock, autocast(self.device, self.precision):
            yield

    @torch.inference_mode()
    def shots(self, image_n3ss: Tensor, label_nss: Tensor) -> list[Any]:
        """Return what the network keeps of n supports; [] if it keeps nothing. None is encoded twice."""
        supports = [*zip(image_n3ss, label_nss, strict=True)]
        with self.forward_pass():
            return self.store.shots([_digest_of(support) for support in supports], supports)

    def outlook(self, name: str | None) -> str:
        """Return the line on classes that the shipped weights were not trained on; empty for others and other weights.

        A class without a name may be any.
        """
        if Path(self.weights.source).resolve() != SHIPPED.resolve():
            return ""
        trained = {_letters(known) for known in self.run.config.data.classes} | COCO_NAMES
        if name is not None and _letters(name) in trained:
            return ""
        return OUTLOOK

    def sized(self, image: np.ndarray, label: np.ndarray) -> tuple[Tensor, Tensor]:
        """Return a photo (H, W, 3) uint8 and its label (H, W) as input: (3, S, S) float32 and (S, S) uint8."""
        image, label = self.view.apply(image, label)
        return channels_first(image), torch.from_numpy(np.ascontiguousarray(label))


def load_model(
    weights: str | Path | None,
    config: str | Path | None = None,
    *,
    overrides: Sequence[str] = (),
    side: int | None = None,
    device: str | None = None,
    keep_base: bool = False,
) -> LoadedModel:
    """Return the network of a checkpoint, ready to predict; other arguments as ``Segmenter``.

    Args:
        weights: a checkpoint; None for the one that ``config`` names; without both, ``SHIPPED``.
        config: YAML, from this folder or this project's; None for the one in the checkpoint.
        keep_base: take a base stage's checkpoint too, as a network of the method ``for_base_stages``.

    UserError: a file cannot be read, weights and config do not fit each other, or device or side cannot be used.
    """
    is_default = weights is None and config is None
    overrides = [*overrides, "test.fuse=features"]  # of masks, a network would have one shot
    if is_default:
        weights = SHIPPED
    if weights is not None:
        overrides.append(override("test.checkpoint", str(weights)))
    if config is not None:
        settings = _settings_of_file(Path(config), overrides)
    else:
        settings = _settings_in_checkpoint(str(weights), overrides, keep_base)
    run, data = Run(settings), settings.data
    side = side or data.size
    _check_side(side, settings)
    torch_device = pick_device(device or settings.run.device)
    network, loaded = load_weights(run.context, side)
    precision = precision_of_test(settings, torch_device)
    prepare_network(network, torch_device, precision)  # not compiled: a few photos do not repay it
    note = ""
    if is_default:
        title = class_of(settings.model).title
        note = f"no --checkpoint: uses {title}, trained on the {len(data.classes)} classes of {data.name}"
    return LoadedModel(
        run=run,
        network=network.eval(),
        device=torch_device,
        precision=precision,
        view=View(OF_PHOTOS, side, side),
        weights=loaded,
        note=note,
    )


def _settings_of_file(config: Path, overrides: list[str]) -> Config:
    """Return the settings of a YAML file, with those of its checkpoint's training."""
    return Run(read_config(config, overrides)).with_checkpoint_config().config


def _settings_in_checkpoint(weights: str, overrides: list[str], keep_base: bool) -> Config:
    """Return the settings in a checkpoint; of a base stage's, if ``keep_base``, for the method ``for_base_stages``."""
    content = checkpoint.read(weights)
    if not checkpoint.is_own(content):
        fix = "to predict with it or export it, name its own, --config config/pascal/X.yaml"
        raise UserError(f"{weights}: contains no config; {fix}")
    settings = from_checkpoint(content["config"], weights, overrides)
    if not keep_base or content["stage"] != "base":
        return settings
    method = next(cls for cls in every_model().values() if cls.for_base_stages)
    model = method.Settings(encoder=settings.model.encoder)  # type: ignore[call-arg]
    return replace(with_data(settings, text=NO_TEXT), model=model)


def _check_side(side: int, settings: Config) -> None:
    """Refuse (UserError) a side of the input that the model does not take."""
    trained = settings.data.size
    if side == trained:
        return
    cls = class_of(settings.model)
    sides = cls.sizes_around(side, settings.model)
    if side != sides[0] or side != cls.nearest_side(side, settings.model):
        near = f"nearest: {', '.join(map(str, sides))}; as trained: {trained}"
        raise UserError(f"--resize {side}: the model does not take this side; {near}")


def _digest_of(tensors: Sequence[Tensor]) -> bytes:
    """Return a digest of the content of tensors."""
    out = hashlib.blake2b()
    for tensor in tensors:
        out.update(tensor.cpu().numpy().tobytes())
    return out.digest()


def _letters(name: str) -> str:
    """Return a name as it is compared: ``Dining table`` and ``diningtable`` are equal."""
    return re.sub(r"[\W_]", "", name).casefold()
