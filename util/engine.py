"""A method with its weights, ready to predict photos: all that ``photos/`` knows of the engine.

Photos and labels enter as tensors of the input's size, supports are kept as shots, and margins come back. Config,
weights, device, precision, text vectors and calibration stay behind it.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from threading import RLock
from typing import Any

import numpy as np
import torch
from torch import Tensor

from model.episode import IGNORE, Episode, NamedEpisode, Supports
from model.mismatch import ModelMismatch
from util.config.imports import import_by_option  # noqa: F401  what photos declare of it
from util.config.read import from_dict, read_config, to_dict
from util.config.tree import override
from util.data.views import PHOTO_RULE, View, channels_first
from util.evaluate.store import ShotStore, Support
from util.files.errors import UserError, as_user_error
from util.files.project import REPOSITORY
from util.loop.device import describe, pick_device
from util.loop.network import autocast, check_prediction, prepare_network
from util.run.build import precision_of_test
from util.run.run import Run
from util.run.weights import Loaded, load_weights
from util.weights import checkpoint
from util.weights.encoders import letters_of

SHIPPED = REPOSITORY / "initmodel" / "pocket_lite0_voc.safetensors"  # the weights where no model is named
OUTLOOK = "a class that these weights were not trained on has masks of 28 % IoU on average: look at each"
VIEWS = 4  # of photos in one forward pass on a GPU, where ``test.batch`` states no number
UNNAMED = "the examples have no class name"
NAME_IT = "; write CLASS=PHOTO:ANNOTATION"
MAX_SIDE = 2049  # pixels of the network's input; memory grows with its square, in some models with its fourth power


@dataclass(frozen=True)
class ClassText:
    """The values that a method reads for the name of a class."""

    name: str | None  # None for a class without one
    class_id: int = 0  # 1-based id of the weights' data set, 0 for a class that the data set lacks
    vector: np.ndarray | None = None  # text vector, (T,) float32; None for methods that read none
    note: str = ""  # one line on the source of the vector


@dataclass
class SupportBatch:
    """Supports that a method sees together, and what it keeps of them."""

    image: Tensor  # (1, K, 3, S, S) float32
    label: Tensor  # (1, K, S, S) uint8 in {0, 1, 255}
    shots: list[Any]  # of each support; [] for methods that keep nothing


@dataclass
class Scores:
    """The answers of a method for B queries by n batches of supports, in their order."""

    margins: Tensor  # logits of the object minus the background's, (B, n, S, S) float32
    presence_features: Tensor | None  # numbers on whether the object is there, (B, n, E) float32


@dataclass(frozen=True, eq=False, kw_only=True)
class Engine(Loaded):
    """A network in evaluation mode on its device, and the view that makes photos its input, as in the evaluation."""

    device: torch.device
    precision: str
    view: View
    choice: str = ""  # a line that says which method or weights were taken where none were named
    lock: Any = field(default_factory=RLock)  # shared by the methods that share an encoder

    def __post_init__(self) -> None:
        if further := ", ".join(self.network.modalities):
            raise UserError(f"{self.title} reads {further} beside colours, which own photos lack; test it by test.py")

    @cached_property
    def store(self) -> ShotStore:
        """The store of the supports' shots."""
        store = ShotStore(self.run.config.test.store_gib)
        store.use_for(self.network)
        return store

    @property
    def title(self) -> str:
        """The name of the method, for people."""
        return self.network.title

    @property
    def place(self) -> str:
        """The device and the precision, for people."""
        return f"{describe(self.device)} in {self.precision}"

    @property
    def views_at_once(self) -> int:
        """The number of photos, or of their tiles, in one forward pass; on a CPU one: several take longer each."""
        asked = self.run.config.test.batch
        if isinstance(asked, int):
            return asked
        return 1 if self.device.type == "cpu" else VIEWS

    @property
    def input(self) -> str:
        """The rule and the size of its input, for people."""
        return f"{self.view.rule} {self.view.side} x {self.view.side}"

    @property
    def settings(self) -> dict[str, Any]:
        """The settings of the method."""
        return to_dict(self.run.config)["model"]

    @property
    def trained_shots(self) -> int | None:
        """The number of shots that its weights were trained for; None if they serve any number."""
        return self.network.trained_shots(self.network.state_dict())

    def outlook(self, name: str | None) -> str:
        """Return the line on classes that the shipped weights were not trained on; empty for others and other weights.

        A class without a name may be any.
        """
        if Path(self.source).resolve() != SHIPPED.resolve():
            return ""
        trained = {*map(letters_of, self.run.config.data.classes)}
        return "" if name is not None and letters_of(name) in trained else OUTLOOK

    def decisive_digest(self) -> "hashlib._Hash":
        """Return a digest, to be continued, of settings and weights: of all that decides but supports."""
        settings = to_dict(self.run.config)
        settings["run"]["precision"] = self.precision  # whatever was asked
        return hashlib.sha256(json.dumps([settings, self.digest]).encode())

    def sized(self, image: np.ndarray, label: np.ndarray) -> tuple[Tensor, Tensor]:
        """Return a photo (H, W, 3) uint8 and its label (H, W) as input: (3, S, S) float32 and (S, S) uint8."""
        image, label = self.view.apply(image, label)
        return channels_first(image), torch.from_numpy(np.ascontiguousarray(label))

    def back(self, margin: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
        """Return a map (S, S) of the input on the pixels of its photo, (H, W)."""
        return self.view.back(margin, size, self.view.rule)

    @contextmanager
    def forward_pass(self) -> Iterator[None]:
        """Enclose a forward pass: in its precision, one thread at a time, since encoders keep what a pass needs.

        UserError: the supports do not fit the method.
        """
        with as_user_error(ModelMismatch), self.lock, autocast(self.device, self.precision):
            yield

    @torch.inference_mode()
    def shots(self, image_n3ss: Tensor, label_nss: Tensor) -> list[Any]:
        """Return what the network keeps of n supports; [] if it keeps nothing. None is encoded twice."""
        each = Supports(image_n3ss, label_nss).split(1)
        supports = [Support(checkpoint.digest_of({"image": one.image, "label": one.label}), one) for one in each]
        with self.forward_pass():
            return self.store.shots(supports)

    @torch.inference_mode()
    def predict(self, query: Tensor, supports: Sequence[tuple[SupportBatch, ClassText]]) -> Scores:
        """Return the scores of queries (B, 3, S, S) by supports of classes; UserError: they are not finite."""
        with self.forward_pass():
            output = self.network.forward_classes([self._episode(query, batch, text) for batch, text in supports])
            check_prediction(output.logits.isfinite().all())
        logits = output.logits.float()
        features = output.presence_features
        return Scores(logits[:, 1:] - logits[:, :1], None if features is None else features.float())

    def _episode(self, query: Tensor, supports: SupportBatch, text: ClassText) -> Episode:
        """Return the episode of B queries of unknown labels, of base classes too where the network reads them."""
        count, device = len(query), query.device
        unknown = torch.full((count, *query.shape[-2:]), IGNORE, dtype=torch.uint8, device=device)
        zero = torch.zeros(count, dtype=torch.int64, device=device)
        vector = None if text.vector is None else torch.from_numpy(text.vector).to(device).expand(count, -1)
        return NamedEpisode(
            query=query,
            query_label=unknown,
            support=supports.image.expand(count, -1, -1, -1, -1),
            support_label=supports.label.expand(count, -1, -1, -1),
            class_id=zero + text.class_id,
            base_id=zero,
            number=zero,
            query_base_label=unknown if self.network.reads_base_labels else None,
            text=vector,
            shots=supports.shots or None,
            name=text.name,
        )

    def read_name(self, name: str | None) -> ClassText:
        """Return what the method reads of a class name.

        The id is that of the data set's class of the same name (upper and lower case are equal), else 0. The vector is
        that class's, else the mean over the data set's classes.
        """
        data = self.run.config.data
        table = self.run.vectors
        ids = {known.lower(): class_id for class_id, known in enumerate(data.classes, 1)}
        class_id = 0 if name is None else ids.get(name.lower(), 0)
        if table is None:
            lacks_name = name is None and self.run.config.model.reads_names
            return ClassText(name, class_id, note=f"{UNNAMED}, so none is read{NAME_IT}" if lacks_name else "")
        if class_id:
            return ClassText(name, class_id, table[class_id], f"{name}: uses the text vector of {data.name}'s class")
        mean = f"so the mean text vector of {data.name}'s classes is used"
        note = f"{UNNAMED}, {mean}{NAME_IT}" if name is None else f"{name}: not a class of {data.name}, {mean}"
        return ClassText(name, 0, table[1:].mean(0), note)


def load_engine(
    weights: str | Path | None,
    config: str | Path | None = None,
    *,
    overrides: Sequence[str] = (),
    side: int | None = None,
    device: str | None = None,
) -> Engine:
    """Return the method of a checkpoint, ready to predict; other arguments as ``Segmenter``.

    Args:
        weights: a checkpoint; None for the one that ``config`` names; without both, ``SHIPPED``.
        config: YAML, from this folder or this project's, or an experiment such as ``split0 pascal --model insid3``;
            None for the one in the checkpoint.

    UserError: a file cannot be read, weights and config do not fit each other, or device or side cannot be used.
    """
    if weights is None and config is None:
        engine = load_engine(SHIPPED, overrides=overrides, side=side, device=device)
        data = engine.run.config.data
        about = f"{engine.title} trained on the {len(data.classes)} classes of {data.name}"
        return replace(engine, choice=f"weights: those shipped, {about}")
    asked = {"test.checkpoint": weights and str(weights), "data.size": side}
    words = [*overrides, *(override(key, value) for key, value in asked.items() if value is not None)]
    if config is not None:
        from util.config.command_line import source_of  # for a config's words alone

        run, stored = Run(read_config(source_of(str(config)), words)).as_tested()
    else:
        stored = checkpoint.read(str(weights))
        if stored.config is None:
            raise UserError(f"{weights}: contains no config; name that of its training: --config config/pascal/X.yaml")
        run = Run(from_dict(stored.config, str(weights), words))
    torch_device = pick_device(device or run.config.run.device)
    loaded = load_weights(run, stored=stored)
    precision = precision_of_test(run.config, torch_device)
    prepare_network(loaded.network.eval(), torch_device, precision)
    size = run.config.data.size
    return Engine(
        run=loaded.run,
        network=loaded.network,
        stored=loaded.stored,
        start=loaded.start,
        device=torch_device,
        precision=precision,
        view=View(PHOTO_RULE, size, size),
        choice=f"weights: {loaded.source}" if weights is None else "",
    )
