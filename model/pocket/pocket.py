"""Pocket: few-shot segmentation that two CPU cores train in an hour.

Read ``Pocket.support`` and ``Pocket.predict``. A small encoder learns with the method; a comparison without layers of
its own says where the query resembles the supports' objects, and a small decoder corrects it. In training every pair of
a query and its support serves twice, with the roles exchanged. The steps are known ones, put together for little
computation: cosines to prototypes and self-support (SSP), greatest cosines (PFENet), a base-class classifier (BAM),
residual correction.
Tests add three steps: a small object of a single support is seen once more, enlarged; a linear probe is fitted to the
episode and added; and the decoder's correction is used only if it helps on the supports themselves. The presence score
compares three levels of the encoder, since they say more than its last map alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from model.contract import Episode, Output, Shot, Task, WithEncoderSettings, register
from model.episode import IGNORE
from model.method import LOW, ONE_GRID, Maps, Method, Wants
from model.parts.loss import cross_entropy, foreground_dice, mask_loss
from model.parts.once import once_for
from model.parts.presence import presence_features, support_summary
from model.pocket.closeup import closeup
from model.pocket.comparison import Comparison, probe, probe_with_query
from model.pocket.decoder import Decoder
from model.pocket.levels import (
    BASE_MAPS,
    VARIANT,
    BaseClasses,
    Levels,
    LevelsOf,
    Views,
    base_maps,
    equal_weights,
    joint_of,
    view_of,
)
from model.tensors.batching import in_groups
from model.tensors.mask import Mask
from model.tensors.ops import mean_over_shots, resize

STRIDE = 4  # losses are computed at every fourth pixel
BEHIND = 0.05  # IoU that the decoder may have below the comparison on a support itself
JUDGES = 5  # supports on which that is asked, at most: the first ones
DICE, COMPARED, COARSE, BASE = 0.5, 0.4, 0.3, 0.5  # weights of losses; COMPARED: of guess and second


@dataclass
class PocketSettings(WithEncoderSettings):
    """Pocket's own settings."""

    foreground_weight: float = field(default=2.0, metadata={"low": 0})  # of foreground pixels in the cross-entropy


@dataclass
class PocketShot(Shot):
    """n supports, to compare with and, each as a query of the others, to judge the decoder."""

    views: Views  # of each the photo, then its close-up if there is one
    classes: Tensor  # as in ``Levels``
    fine: Tensor
    label: Tensor  # (n, S, S)

    def as_query(self) -> Levels:
        """Return the supports as queries."""
        unit = [x[:, 0] for x in self.views.unit]
        return Levels(unit, joint_of(unit[:-1]), self.classes, self.fine)


@register("pocket")
class Pocket(Method):
    """Comparison and correction over an encoder that learns."""

    Settings = PocketSettings
    title = "Pocket"
    reads_base_labels = True
    shots_share_weights = True
    presence_of_maps = False
    wants = Wants(blocks=True, grids=ONE_GRID, variant=VARIANT)
    settings: PocketSettings

    def __init__(self, settings: PocketSettings, task: Task):
        super().__init__(settings, task)
        self.levels = LevelsOf(self.encoder)
        count, joint = len(self.levels.channels), sum(self.levels.channels)
        self.base_classes = BaseClasses(joint, task.base_classes)
        self.comparison = Comparison(count + 1)
        self.decoder = Decoder(self.comparison.maps, BASE_MAPS, joint, self.encoder.channels[LOW])

    def support(self, maps: Maps, mask: Mask) -> PocketShot:
        """Return the views of n supports: in tests a small object is seen once more, enlarged."""
        levels = self.levels(maps, self.base_classes.classify)
        views = view_of(levels, mask.label)
        close = None if self.training else closeup(mask.label)
        if close is not None:
            enlarged = self.levels(self.read_normalised(close.of(maps.images)), self.base_classes.classify)
            views = Views.beside([views, view_of(enlarged, close.label)])
        presence = None if self.training else support_summary(levels.of_encoder, mask.foreground)
        return PocketShot(views, levels.classes, levels.fine, mask.label, presence=presence)

    def predict(self, maps: Maps, shots: Sequence[PocketShot], episode: Episode) -> Output:
        """Return logits (B, 2, S, S) and in training the losses; ``extra`` has those without the decoder."""
        query = self.levels(maps, self.base_classes.classify)
        compared = self._compare(query, photos_of(shots)) if self.training else self._compare_in_tests(query, shots)
        size = episode.query.shape[-2:]
        logits, match = (resize(_two_classes(compared[name]), size) for name in ("fine", "match"))
        output = Output(logits, extra={"match": match})
        if self.training:
            output.losses = self._pair_losses(compared, query, shots, episode)
        else:
            summaries_bkc = torch.stack([shot.presence for shot in shots if shot.presence is not None], dim=1)
            output.presence_features = presence_features(query.of_encoder, summaries_bkc)
        return output

    def _compare_in_tests(self, query: Levels, shots: Sequence[PocketShot]) -> dict[str, Tensor]:
        """Return the logits of ``_compare``, with a probe, and the decoder's correction if it helps.

        The close-up of a single support is compared, too.
        """
        views = shots[0].views if len(shots) == 1 else photos_of(shots)
        compared = self._compare(query, views, photos=len(shots))
        helps_b = once_for([shots[:JUDGES]], self._decoder_helps)
        fine_b1hw = compared["fine"]
        if len(shots) == 1:
            uncorrected = resize(compared["match"], fine_b1hw.shape[-2:])
        else:
            uncorrected = fine_b1hw - compared["correction"]
        compared["fine"] = torch.where(helps_b.view(-1, 1, 1, 1), fine_b1hw, uncorrected)
        return compared

    def _pair_losses(
        self, compared: dict[str, Tensor], query: Levels, shots: Sequence[PocketShot], episode: Episode
    ) -> dict[str, Tensor]:
        """Return the losses of the query; of a single support as a query of its query, too, and their mean."""
        assert episode.query_base_label is not None  # the data set fills it: ``reads_base_labels``
        losses = self._losses(compared, episode.query_label)
        if len(shots) == 1:
            exchanged = self._compare(shots[0].as_query(), view_of(query, episode.query_label))
            of_support = self._losses(exchanged, shots[0].label)
            losses = {name: (loss + of_support[name]) / 2 for name, loss in losses.items()}
        base_label = episode.query_base_label[:, ::STRIDE, ::STRIDE]
        losses["base"] = BASE * mask_loss(query.classes, base_label)
        return losses

    def _decoder_helps(self, classes: Sequence[Sequence[PocketShot]]) -> Tensor:
        """Return for B episodes (B,) whether the decoder finds K supports about as well as what it corrects.

        Each support is the query of the others here, a single one its own. A decoder that fails there takes the object
        for background or for a base class, and would do so in the query.
        """
        (judges,) = classes
        photos = len(judges) - 1  # for the probe; in a single support it would find the object by its own positions
        gains = []
        for query, others, label in _each_with_others(judges):
            compared = self._compare(query, others, photos)
            corrected = compared["fine"]
            uncorrected = corrected - compared["correction"] if photos else compared["match"]
            gains.append(_iou(corrected, label) - _iou(uncorrected, label))
        gain_kb = torch.cat(gains).unflatten(0, (len(judges), -1))
        return gain_kb.mean(0) >= -BEHIND

    def _compare(self, query: Levels, views: Views, photos: int = 0) -> dict[str, Tensor]:
        """Return the logits of B queries, (B, 1, h, w) each, float32, from K views of supports.

        They are ``guess``, ``second``, ``match``, ``coarse`` and, on the grid of ``Levels.fine``, ``fine`` and the
        decoder's ``correction`` in it. The views are of so many ``photos``, to which a probe is fitted; 0: none is.
        """
        compared = self.comparison(query, views, views.objects, views.backgrounds)
        weight_bk = equal_weights(views.objects)
        of_classes = base_maps(query.classes, views.classes, weight_bk)
        mean_bc = mean_over_shots(views.mean, weight_bk)
        coarse, fine = self.decoder(compared, of_classes, query, mean_bc)
        correction = fine - resize(compared.match, fine.shape[-2:])
        if photos == 1:  # too few for a probe: the query's own confident positions are the second photo
            first = (coarse + compared.match) / 2
            probed = probe_with_query(query, views, first, coarse)
            fine = fine + resize(probed, fine.shape[-2:])
        elif photos:
            probed = probe(query, views)
            fine = fine + resize(probed, fine.shape[-2:])
        return {
            "guess": compared.guess,
            "second": compared.second,
            "match": compared.match,
            "coarse": coarse,
            "fine": fine,
            "correction": correction,
        }

    def _losses(self, logits: dict[str, Tensor], label_bss: Tensor) -> dict[str, Tensor]:
        """Return the weighted losses of the logits of ``_compare``."""
        weights = {"fine": 1.0, "coarse": COARSE, "guess": COMPARED, "second": COMPARED}
        label = label_bss[:, ::STRIDE, ::STRIDE]
        losses = {}
        for name, weight in weights.items():
            two_classes = _two_classes(logits[name])
            losses[name] = weight * mask_loss(two_classes, label, self._weighted)
        return losses

    def _weighted(self, logits_b2hw: Tensor, label_bhw: Tensor) -> Tensor:
        """Return cross-entropy with the foreground's weight, and a share of the Dice loss."""
        weighted = cross_entropy(logits_b2hw, label_bhw, self.settings.foreground_weight)
        return weighted + DICE * foreground_dice(logits_b2hw, label_bhw)


def photos_of(shots: Sequence[PocketShot]) -> Views:
    """Return the views of K shots without close-ups."""
    return Views.beside([shot.views.each(lambda x: x[:, :1]) for shot in shots])


Judged = tuple[Levels, Views, Tensor]  # supports as queries, the views of others, and their labels


def _each_with_others(judges: Sequence[PocketShot]) -> Sequence[Judged]:
    """Return each of K supports as a query, with the views of the others from the next one on, and its label.

    A single support has itself. A GPU gets all at once, shot after shot.
    """
    each = []
    for k, judge in enumerate(judges):
        before = judges[:k]
        after = judges[k + 1 :]
        others = [*after, *before] or [judge]
        each.append((judge.as_query(), photos_of(others), judge.label))
    return in_groups(each, join=_as_one, beside=judges[0].label)


def _as_one(each: Sequence[Judged]) -> Judged:
    queries, views, labels = zip(*each, strict=True)
    return Levels.join(queries), Views.join(views), torch.cat(labels)


def _iou(logits_b1hw: Tensor, label_bss: Tensor) -> Tensor:
    """Return the IoU (B,) of masks and objects, in pixels of the labels."""
    is_object = label_bss == 1
    logits_b1ss = resize(logits_b1hw, label_bss.shape[-2:])
    is_positive = logits_b1ss[:, 0] > 0
    mask = is_positive & (label_bss != IGNORE)
    intersection = (mask & is_object).sum((1, 2))
    return intersection / (mask | is_object).sum((1, 2)).clamp(min=1)


def _two_classes(logits_b1hw: Tensor) -> Tensor:
    """Return two-class logits whose difference is the foreground's logit, background first."""
    return torch.cat([-logits_b1hw / 2, logits_b1hw / 2], dim=1)
