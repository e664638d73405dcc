"""Segment classes in any photos, given a few marked photos: ``Segmenter({"cup": [(photo, mask)]})(photo).mask``.

Logits of each class are resized back to the photo's pixels, where classes and background compete.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from model.episode import IGNORE, CachedFeatures, Episode, Output
from util.checkpoints.checkpoint import digest_of
from util.config.read import to_dict
from util.errors import UserError, nearest
from util.evaluate.calibration import find_calibration, presence_inputs
from util.evaluate.evaluate import FINAL
from util.parallel import attempt
from util.predict.encoded_class import EncodedClass, KeptBase, encoded_class
from util.predict.load_model import load_model
from util.predict.photos import GivenPhoto, TiledPhoto, Window, photos_in, read_photo
from util.predict.prediction import Decision, Prediction
from util.predict.publish import fetched, publish
from util.predict.supports import BOXED, UNNAMED, GivenSupport, Support, check_class_name, supports_of
from util.runtime.network import check_finite

MAX_CLASSES = IGNORE - 1  # of a mask of 8 bits, beside the background
BATCH = 4  # views of queries in one forward pass
SMALL = 0.01  # share of a photo below which objects are seldom found
LEAST = 0.1  # share of a box that is found in it; all of a box with less is the object
Supports = Sequence[GivenSupport] | Mapping[str, Sequence[GivenSupport]]


class Segmenter:
    """A network and the classes that it segments; threads take turns, since a network keeps what its pass needs.

    Args:
        checkpoint: a file of weights; None for the method of ``config``, else this repository's Pocket. May be left
            out: ``Segmenter({"cup": [...]})``, ``Segmenter([pair, ...])``.
        supports: by the name of each class, or of one class, a list of pairs (photo, marks), of texts
            ``[class=]photo:marks``, or of ``util/predict/supports.py``; see ``support_from_arrays``.
        name: the class of supports that name none.
        config: YAML file, for checkpoints that contain none.
        overrides: settings to change, ``section.key=value``.
        side: S of the network's input in pixels, default as trained.
        tile: side of overlapping tiles in pixels of the photo; None for photos as a whole.
        device: as ``run.device``.
        vectors: a file of word vectors, for names that are not among the data set's classes.
        output: name of the two-channel output that is the prediction.
        decision: which classes and pixels are shown, where they differ from the calibration's and the method's.
        keep_base: the base classes of the weights are in the masks too, before those of the supports.

    UserError: a file cannot be read, or the arguments do not fit each other.
    """

    def __init__(
        self,
        checkpoint: str | Path | Supports | None = None,
        supports: Supports = (),
        name: str | None = None,
        *,
        config: str | Path | None = None,
        overrides: Sequence[str] = (),
        side: int | None = None,
        tile: int | None = None,
        device: str | None = None,
        vectors: str | Path | None = None,
        output: str = FINAL,
        decision: Decision | None = None,
        keep_base: bool = False,
    ):
        if not isinstance(checkpoint, str | Path | None):
            if supports:
                raise UserError("Segmenter: two sets of supports; write Segmenter(checkpoint, supports)")
            supports, checkpoint = checkpoint, None
        self.model = model = load_model(checkpoint, config, overrides, side, device, keep_base)
        self.tile, self.output, self.decision = tile, output, decision or Decision()
        self.vectors = None if vectors is None else Path(vectors)
        self.kept = KeptBase(model) if keep_base else None
        self.calibration = None  # of the network's final output; others have none
        if output == FINAL:
            weights = model.weights
            self.calibration = find_calibration(model.run.config, weights.source, weights.digest, model.precision)
        elif self.kept is not None and self.kept.fits is not None:
            raise UserError(f"--output {output}: {model.network.title} has none for --keep-base; leave it out")
        if (least := self.decision.min_score) is not None and self.calibration is None:
            fix = "has no calibration for these weights; make one: python test.py CONFIG --calibrate"
            raise UserError(f"--min-score {least:g}: {model.network.title} {fix}")
        self.classes: list[EncodedClass] = [] if self.kept is None else [*self.kept.classes]
        self.notes: list[str] = []
        self.adaptation: dict[str, Any] | None = None  # of ``util/predict/doubtful.py``: what the supports said
        self.presence_by: Segmenter | None = None  # who says whether a photo shows a class; None: this one
        named = supports if isinstance(supports, Mapping) else supports_of(supports, name)
        for class_name, of_class in named.items():
            self.add(class_name, of_class)

    @classmethod
    def from_pretrained(
        cls, place: str | Path, *arguments: Any, revision: str | None = None, **options: Any
    ) -> Segmenter:
        """Return the segmenter of a published folder, or of a repository ``owner/name`` of the hub at a revision."""
        return cls(fetched(place, revision), *arguments, **options)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the checkpoint, without ``overrides`` and classes, as a folder; errors as ``publish``."""
        publish(self.model.weights, Path(folder))

    def add(self, name: str | None, supports: Sequence[GivenSupport]) -> None:
        """Add a class to segment, of all these supports; predictions under way in other threads are without it.

        UserError: the supports, or their number, do not fit the model; the class was added before or is one too many
        for a mask of 8 bits; or this segmenter was adapted to its classes.
        """
        if self.presence_by is not None:
            raise UserError(f"{name or UNNAMED}: this segmenter was adapted to its classes; add all of them before")
        name = None if name is None else check_class_name(name, "class:")
        shown = name or UNNAMED
        read = [one for of_class in supports_of(supports, name).values() for one in of_class]
        with self.model.lock:
            if self.kept is not None and shown.casefold() in (known.name.casefold() for known in self.kept.classes):
                raise UserError(f"{shown}: is a base class of the weights, which is kept; leave its supports out")
            if any(known.name == shown for known in self.classes):
                raise UserError(f"{shown}: was added before; give all its supports at once, or another name")
            if len(self.classes) == MAX_CLASSES:
                raise UserError(f"{shown}: masks of 8 bits take {MAX_CLASSES} classes")
            self.classes.append(known := encoded_class(name, self.boxes_to_masks(name, read), self.model, self.vectors))
            self.notes += filter(None, [known.note])
            outlook = self.model.outlook(name)
            if outlook and outlook not in self.notes:
                self.notes.append(outlook)
            if (share := known.share) < SMALL:
                seldom = f"objects below {SMALL:.0%} of a photo are seldom found; crop the photos closer to them"
                self.notes.append(f"{shown}: covers at most {share:.1%} of its supports, and {seldom}")

    def boxes_to_masks(self, name: str | None, supports: Sequence[Support]) -> list[Support]:
        """Return supports in whose boxes the network has looked for the object, given all of them; not base stages."""
        out = [replace(one, label=np.where(one.label == BOXED, 1, one.label).astype(np.uint8)) for one in supports]
        if all((one.label != BOXED).all() for one in supports) or (self.kept is not None and self.kept.fits):
            return out
        look = copy.copy(self)
        look.kept, look.decision = None, Decision(None if self.calibration is None else 0.0)
        look.classes = [encoded_class(name, out, self.model, self.vectors)]
        for i, given in enumerate(supports):
            if (boxed := given.label == BOXED).any():
                found = look(given.image).mask > 0
                count, parts = cv2.connectedComponents(boxed.astype(np.uint8))
                shares = np.bincount(parts.ravel(), found.ravel(), count) / np.bincount(parts.ravel(), minlength=count)
                found |= (shares < LEAST)[parts]
                out[i] = replace(given, label=np.where(boxed, found, given.label).astype(np.uint8))
        return out

    def __repr__(self) -> str:
        classes = ", ".join(f"{known.name} ({len(known.sources)})" for known in self.classes)
        return f"<Segmenter {self.model.network.title} on {self.model.device}: {classes or 'no classes'}>"

    def without_classes(self, keep_base: bool = False) -> Segmenter:
        """Return one of this network without supports, with base classes if ``keep_base`` or this one has them."""
        out = copy.copy(self)
        out.classes, out.notes = [], []
        if keep_base or self.kept is not None:
            out.kept = KeptBase(self.model)
            out.classes = [*out.kept.classes]
        return out

    def __call__(self, photo: GivenPhoto) -> Prediction:
        """Return the prediction for one photo; see ``read_photo`` for its forms."""
        return next(self.many([photo]))

    def many(
        self, photos: str | Path | Iterable[GivenPhoto], batch: int = BATCH, unread: dict[Path, str] | None = None
    ) -> Iterator[Prediction]:
        """Yield the prediction for each photo, or photo of a folder, with up to ``batch`` views in one forward pass.

        UserError: there are no classes yet, or a photo cannot be read; files then join ``unread`` where that is given.
        """
        if not self.classes:
            raise UserError("no supports: mark the object on at least one photo")
        photos = photos_in([Path(photos)]) if isinstance(photos, str | Path) else photos
        now = copy.copy(self)
        now.classes = [*self.classes]  # other threads may add some meanwhile
        pending, views = list[tuple[TiledPhoto, Path | None]](), list[tuple[TiledPhoto, Window]]()
        for given in photos:
            image, file = attempt(read_photo, given), Path(given) if isinstance(given, str | Path) else None
            if isinstance(image, UserError):
                if unread is None or file is None:
                    raise image
                unread[file] = str(image)
                continue
            photo = TiledPhoto(image, len(now.classes), self.tile)
            pending.append((photo, file))
            for window in photo.windows:
                views.append((photo, window))
                if len(views) >= batch:
                    now._run(views)
                    views = []
            while pending and not pending[0][0].missing:
                yield now._prediction(*pending.pop(0))
        if views:
            now._run(views)
        yield from (now._prediction(*one) for one in pending)

    def _run(self, views: list[tuple[TiledPhoto, Window]]) -> None:
        images = [photo.image[window] for photo, window in views]
        sized = [self.model.sized(image, np.zeros(image.shape[:2], np.uint8)) for image in images]
        inputs, labels = (torch.stack(kind).to(self.model.device) for kind in zip(*sized))
        margins, presence_features = list[Tensor](), None
        if self.kept is not None:
            new = self.classes[len(self.kept.classes) :]
            margins.append(self.kept.margins(inputs, labels < IGNORE, new))
        if self.own:
            of_own, presence_features = self.scores(inputs)
            margins.append(of_own)
        view, maps = self.model.view, torch.cat(margins, 1).cpu().numpy()
        for i, (photo, window) in enumerate(views):
            photo.add(window, [view.back(of_class, images[i].shape[:2], view.rule) for of_class in maps[i]])
            photo.presence_features += [] if presence_features is None else [presence_features[i].cpu()]

    def _prediction(self, photo: TiledPhoto, file: Path | None) -> Prediction:
        margins, calibration = photo.blended(), self.calibration if self.own else None
        presence: Any = None
        first = len(self.classes) - len(self.own)
        if self.presence_by is not None and calibration is not None:
            presence = (self.presence_by(photo.image).presence or [])[first:]
        elif calibration is not None:  # the largest over the windows of the photo
            windows: Sequence = photo.presence_features or [[None] * len(margins)]
            presence = [
                max(calibration.presence(presence_inputs(torch.from_numpy(m), own[i]).numpy()) for own in windows)
                for i, m in enumerate(margins[first:])
            ]
        if self.decision.refine and self.own:  # it was measured for classes against the background alone
            margins = photo.refine(first)
        if self.kept is not None and first and self.own:
            least, known = self.decision.min_score, calibration
            if presence is not None and known is not None:
                least, calibration = known.threshold if least is None else least, replace(known, scale=1.0, offset=0.0)
            self.kept.settle(margins, presence and [p * (p >= least) for p in presence])
            presence = presence and [*[None] * first, *presence]
        names = [known.name for known in self.classes]
        found = Prediction.from_margins(photo.image, names, margins, presence, calibration, self.decision)
        return replace(found, photo=file, facts=self.facts)

    @property
    def own(self) -> list[EncodedClass]:
        """The classes that the network finds by their supports alone, which are the last ones."""
        kept = self.kept
        return self.classes if kept is None else [] if kept.fits else self.classes[len(kept.classes) :]

    @property
    def facts(self) -> dict[str, Any]:
        """The entries of the JSON that are the same for every query: model, input, supports, text vectors."""
        model = self.model
        return {
            "model": model.network.title,
            "checkpoint": model.weights.source,
            "output": self.output,
            "input": f"{model.view.rule} {model.view.side} x {model.view.side}",
            "precision": model.precision,
            "tile": self.tile,
            "calibration": None if self.calibration is None else self.calibration.facts(),
            "decision": asdict(self.decision),
            "settings": to_dict(model.run.config)["model"],
            "adapt": self.adaptation,
            "supports": {known.name: known.sources for known in self.classes},
            "text": {known.name: known.note for known in self.classes if known.note},
        }

    def digest(self) -> str:
        """Return a digest of settings, weights, vectors, and supports as the network sees them: all beside queries."""
        settings = to_dict(self.model.run.config)
        settings["run"]["precision"], settings["test"]["precision"] = self.model.precision, None  # whatever was asked
        decisive = [settings, digest_of(self.model.network.state_dict())]
        decisive += [] if self.kept is None else ["keep_base"]
        out = hashlib.sha256(json.dumps(decisive).encode())
        for known in self.classes:
            tensors = [t for batch in known.support_batches for t in (batch.image, batch.label)]
            for array in [*(t.cpu().numpy() for t in tensors), known.vector]:
                out.update(b"" if array is None else np.ascontiguousarray(array).tobytes())
        return out.hexdigest()

    @torch.inference_mode()
    def scores(self, query: Tensor, cached: CachedFeatures | None = None) -> tuple[Tensor, Tensor | None]:
        """Return the margins and the model's own numbers on presence, for inputs (B, 3, S, S).

        Margins are each class's logit minus the background's, (B, n, S, S) float32; the numbers are (B, n, E) float32,
        None for a model without any. ``cached`` is the network's ``cache_query`` of the inputs, where it is known.
        """
        episodes, counts = self.episodes(query)
        if cached is not None:
            episodes = [replace(episode, cached_query=[cached]) for episode in episodes]
        with self.model.forward_pass():
            output = self.model.network.forward_classes(episodes)
        check_finite(output)
        return self.scores_of(output, counts)

    def episodes(self, query: Tensor) -> tuple[list[Episode], list[int]]:
        """Return the episodes of queries (B, 3, S, S), of all batches of all classes in a row, and their numbers."""
        base_labels = self.model.network.reads_base_labels
        each = [known.episode(query, some, base_labels) for known in self.own for some in known.support_batches]
        return each, [len(known.support_batches) for known in self.own]

    def scores_of(self, output: Output, batches: Sequence[int]) -> tuple[Tensor, Tensor | None]:
        """Return the scores of n classes as ``scores`` does, each the mean over its number of ``batches`` of supports.

        ``output`` is of ``forward_classes`` for all batches of all classes in a row; of it, ``self.output`` is taken.
        """
        by_name = {FINAL: output.logits, **output.extra}
        if self.output not in by_name:
            raise UserError(f"--output {self.output}: this model has no such output{nearest(self.output, by_name)}")
        logits = by_name[self.output].float()
        presence_features = (
            None if output.presence_features is None else _means(output.presence_features.float(), batches)
        )
        return _means(logits[:, 1:] - logits[:, :1], batches), presence_features


def _means(values: Tensor, batches: Sequence[int]) -> Tensor:
    """Return the mean over the batches of supports of each class, (B, n, ...), of values (B, batches, ...)."""
    return torch.stack([of_class.mean(1) for of_class in values.split(list(batches), dim=1)], dim=1)
