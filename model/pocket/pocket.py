"""Pocket: few-shot segmentation that two CPU cores train in an hour.

Read ``Pocket.forward`` first. A small encoder learns with the method; a comparison without layers of its own says where
the query resembles the supports' objects, and a small decoder corrects it. In training every pair of a query and its
support serves twice, with the roles exchanged. The steps are known ones, put together for little computation: cosines
to prototypes and self-support (SSP), greatest cosines (PFENet), a base-class classifier (BAM), residual correction.
In tests a small object of a single support is seen once more, enlarged, and a linear probe, fitted to the episode, is
added; the decoder's correction is taken where it helps on the supports themselves.
"""

import zlib
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from model.common.fixed_shapes import groups_of, shapes_are_fixed
from model.common.loss import cross_entropy, foreground_dice, mask_loss
from model.common.ops import background_mask, foreground_mask, masked_mean, mean_over_shots, resize, to_cpu
from model.common.presence import presence_features_of_maps
from model.common.with_encoder import HIGH, LOW, WithEncoder, WithEncoderSettings
from model.contract import Episode, Output, Task, register
from model.encoders.features import Features
from model.encoders.registry import ONE_GRID
from model.episode import IGNORE
from model.pocket.closeup import Closeup, closeup
from model.pocket.comparison import Comparison, probe, probe_with_query, shares
from model.pocket.decoder import Decoder
from model.pocket.levels import BASE_MAPS, MASK_EPS, VARIANT, BaseClasses, Levels, LevelsOf, base_maps, equal_weights

STRIDE = 4  # losses are computed at every fourth pixel
BEHIND = 0.05  # IoU that the decoder may have below the comparison on a support itself
JUDGES = 5  # supports on which that is asked, at most: the first ones
DICE, COMPARED, COARSE, BASE = 0.5, 0.4, 0.3, 0.5  # weights of losses; COMPARED: of guess and second


@dataclass
class PocketSettings(WithEncoderSettings):
    """Pocket's own settings; ``config/model/pocket.yaml`` explains them."""

    foreground_weight: float = field(default=2.0, metadata={"low": 0})


@dataclass
class Kept:
    """The data that Pocket keeps beside the features of a support that all queries share, for each of its objects."""

    closeups: dict[tuple[float, ...], Features] = field(default_factory=dict)  # by their boxes
    decoder_helps: dict[tuple[object, ...], Tensor] = field(default_factory=dict)  # by sums of all supports and labels

    @property
    def nbytes(self) -> int:
        """Size of the tensors in bytes."""
        return sum(x.nbytes for x in self.closeups.values()) + sum(x.nbytes for x in self.decoder_helps.values())


@register("pocket")
class Pocket(WithEncoder):
    """Comparison and correction over an encoder that learns."""

    Settings = PocketSettings
    title = "Pocket"
    reads_base_labels = True
    reads_intermediate = True
    shots_share_weights = True
    grids, variant = ONE_GRID, VARIANT
    settings: PocketSettings

    def __init__(self, settings: PocketSettings, task: Task):
        super().__init__(settings, task)
        self.levels = LevelsOf(self.encoder)
        count, joint = len(self.levels.channels), sum(self.levels.channels)
        self.base_classes = BaseClasses(joint, task.base_classes)
        self.comparison = Comparison(count + 1)
        self.decoder = Decoder(self.comparison.maps, BASE_MAPS, joint, self.encoder.channels[LOW])
        self.freeze()

    def forward(self, episode: Episode) -> Output:
        """Return logits (B, 2, S, S) and in training the losses; ``extra`` has those without the decoder."""
        query_features, support_features = self.encode_both(episode)
        query = self.levels(query_features, self.base_classifier)
        support = self.levels(support_features, self.base_classifier)  # of all shots, episode after episode

        if self.training:
            compared = self._compare(query, support, episode.support_label)
        else:
            compared = self._compare_in_tests(query, support, episode)
        size = episode.query.shape[-2:]
        logits, match = (resize(_two_classes(compared[name]), size) for name in ("fine", "match"))
        output = Output(logits, extra={"match": match})
        if self.training:
            output.losses = self._pair_losses(compared, query, support, episode)
        else:
            mask = foreground_mask(episode.support_label)
            query_f4, support_f4 = query_features.stage[HIGH], support_features.stage[HIGH]
            output.presence_features = presence_features_of_maps(query_f4, support_f4, mask)
        return output

    def _compare_in_tests(self, query: Levels, supports: Levels, episode: Episode) -> dict[str, Tensor]:
        """Return the logits of ``_compare``, with a close-up and a probe, and the decoder's correction if it helps."""
        views = supports
        label_bkss = episode.support_label
        shots = label_bkss.shape[1]
        if shots == 1:
            close = closeup(episode.support[:, 0], label_bkss[:, 0])
            if close is not None:
                enlarged = self.levels(self._encode_closeup(close, episode), self.base_classifier)
                views = supports.beside(enlarged)
                label_bkss = torch.cat([label_bkss, close.label.unsqueeze(1)], dim=1)
        compared = self._compare(query, views, label_bkss, photos=shots)
        judges = min(shots, JUDGES)
        of_judges = supports.shots(slice(judges), shots)
        helps_b111 = self._decoder_helps(of_judges, label_bkss[:, :judges], _shared_support(episode))
        fine_b1hw = compared["fine"]
        if shots == 1:
            uncorrected = resize(compared["match"], fine_b1hw.shape[-2:])
        else:
            uncorrected = fine_b1hw - compared["correction"]
        compared["fine"] = torch.where(helps_b111, fine_b1hw, uncorrected)
        return compared

    def _pair_losses(
        self, compared: dict[str, Tensor], query: Levels, support: Levels, episode: Episode
    ) -> dict[str, Tensor]:
        """Return the losses of the query; of a single support as a query of its query, too, and their mean."""
        assert episode.query_base_label is not None  # the data set fills it: ``reads_base_labels``
        losses = self._losses(compared, episode.query_label)
        if episode.support.shape[1] == 1:
            exchanged = self._compare(support, query, episode.query_label.unsqueeze(1))
            of_support = self._losses(exchanged, episode.support_label[:, 0])
            losses = {name: (loss + of_support[name]) / 2 for name, loss in losses.items()}
        base_label = episode.query_base_label[:, ::STRIDE, ::STRIDE]
        losses["base"] = BASE * mask_loss(query.classes, base_label)
        return losses

    @property
    def base_classifier(self) -> nn.Sequential:
        """That of every level's maps."""
        return self.base_classes.classify

    @torch.no_grad()
    def base_features(self, image_b3hw: Tensor) -> Tensor:
        """Return its hidden layer."""
        encoded = self.encode_images(self.encoder.normalise(image_b3hw))
        return self.levels(encoded, self.base_classifier[:-1]).classes.float()

    def _encode_closeup(self, close: Closeup, episode: Episode) -> Features:
        """Return the features of B close-ups; those of a cached support that all queries share are kept with it."""
        shared = _shared_support(episode)
        if shared is None:
            return self.encode_supports(close.image, close.label)
        kept = shared.derived.setdefault("pocket", Kept()).closeups
        if close.box not in kept:
            kept[close.box] = self.encode_supports(close.image[:1], close.label[:1])
        return kept[close.box].repeat(len(close.image))

    def _decoder_helps(self, supports: Levels, label_bkss: Tensor, shared: Features | None) -> Tensor:
        """Return for B episodes (B, 1, 1, 1) whether the decoder finds K supports about as well as what it corrects.

        Each support is the query of the others here, a single one its own. A decoder that fails there takes the object
        for background or for a base class, and would do so in the query. The result for supports that all queries share
        is kept with the first, ``shared``.
        """
        if shared is None or shapes_are_fixed():
            gain_b = self._gain_of_decoder(supports, label_bkss)
            return (gain_b >= -BEHIND)[:, None, None, None]
        first = supports.rows(slice(label_bkss.shape[1]))
        sums = first.joint.sum((1, 2, 3))  # others may have the same labels
        sums, labels = to_cpu([sums, label_bkss[0]])
        kept = shared.derived.setdefault("pocket", Kept()).decoder_helps
        key = (*sums.tolist(), zlib.crc32(labels.numpy().tobytes()))
        if key not in kept:
            kept[key] = self._decoder_helps(first, label_bkss[:1], None)
        return kept[key].expand(len(label_bkss), 1, 1, 1)

    def _gain_of_decoder(self, supports: Levels, label_bkss: Tensor) -> Tensor:
        """Return the IoU that the decoder adds on K supports, each the query of the others, on average, (B,)."""
        count = label_bkss.shape[1]
        photos = count - 1  # for the probe; in a single support it would find the object by its own positions
        position = torch.arange(count, device=label_bkss.device)
        others_km = (position.unsqueeze(1) + 1 + position[: max(photos, 1)]) % count  # from the next one on
        gains = []
        for group in groups_of(count, supports.joint):
            queries, others = (supports.shots(which, count) for which in (group, others_km[group]))
            compared = self._compare(queries, others, label_bkss[:, others_km[group]].flatten(0, 1), photos)
            uncorrected = compared["fine"] - compared["correction"] if photos else compared["match"]
            label_nss = label_bkss[:, group].flatten(0, 1)
            gain_n = _iou(compared["fine"], label_nss) - _iou(uncorrected, label_nss)
            gains.append(gain_n.unflatten(0, (len(label_bkss), -1)))
        return torch.cat(gains, dim=1).mean(1)

    def _compare(self, query: Levels, supports: Levels, label_bkss: Tensor, photos: int = 0) -> dict[str, Tensor]:
        """Return the logits of B queries, (B, 1, h, w) each, float32, from B * K views of supports and their labels.

        They are ``guess``, ``second``, ``match``, ``coarse`` and, on the grid of ``Levels.fine``, ``fine`` and the
        decoder's ``correction`` in it. The views are of so many ``photos``, to which a probe is fitted; 0: none is.
        """
        size = query.joint.shape[-2:]
        masks = [mask(label_bkss).flatten(0, 1) for mask in (foreground_mask, background_mask)]
        objects, backgrounds = (shares(mask, size).unflatten(0, label_bkss.shape[:2]) for mask in masks)
        compared = self.comparison(query, supports, objects, backgrounds)

        support_classes = supports.classes.unflatten(0, label_bkss.shape[:2])
        of_classes = base_maps(query.classes, support_classes, objects)
        mean_nc = masked_mean(supports.joint, objects.flatten(0, 1).unsqueeze(1), MASK_EPS)
        mean_bc = mean_over_shots(mean_nc.unflatten(0, label_bkss.shape[:2]), equal_weights(objects))
        coarse, fine = self.decoder(compared, of_classes, query, mean_bc)
        correction = fine - resize(compared.match, fine.shape[-2:])
        if photos == 1:  # too few for a probe: the query's own confident positions are the second photo
            first = (coarse + compared.match) / 2
            probed = probe_with_query(query, supports, (objects, backgrounds), first, coarse)
            fine = fine + resize(probed, fine.shape[-2:])
        elif photos:
            probed = probe(query, supports, objects, backgrounds)
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
            losses[name] = weight * mask_loss(_two_classes(logits[name]), label, self._weighted)
        return losses

    def _weighted(self, logits_b2hw: Tensor, label_bhw: Tensor) -> Tensor:
        """Return cross-entropy with the foreground's weight, and a share of the Dice loss."""
        weighted = cross_entropy(logits_b2hw, label_bhw, self.settings.foreground_weight)
        return weighted + DICE * foreground_dice(logits_b2hw, label_bhw)


def _shared_support(episode: Episode) -> Features | None:
    """Return the cached features of the first of K supports that all queries share, if they do."""
    cached = episode.shots
    if cached is None or sum(map(len, cached)) != episode.support.shape[1]:
        return None
    return cached[0]


def _iou(logits_b1hw: Tensor, label_bss: Tensor) -> Tensor:
    """Return the IoU (B,) of masks and objects, in pixels of the labels."""
    is_object = label_bss == 1
    is_positive = resize(logits_b1hw, label_bss.shape[-2:])[:, 0] > 0
    mask = is_positive & (label_bss != IGNORE)
    intersection = (mask & is_object).sum((1, 2))
    union = (mask | is_object).sum((1, 2))
    return intersection / union.clamp(min=1)


def _two_classes(logits_b1hw: Tensor) -> Tensor:
    """Return two-class logits whose difference is the foreground's logit, background first."""
    return torch.cat([-logits_b1hw / 2, logits_b1hw / 2], dim=1)
