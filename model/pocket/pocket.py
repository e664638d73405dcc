"""Pocket: few-shot segmentation that two CPU cores train in an hour.

Read ``Pocket.forward`` first. A small encoder learns with the method; a comparison without layers of its own says where
the query resembles the supports' objects, and a small decoder corrects it. In training every pair of a query and its
support serves twice, with the roles exchanged. The steps are known ones, put together for little computation: cosines
to prototypes and self-support (SSP), greatest cosines (PFENet), a base-class classifier (BAM), residual correction.
In tests a small object of a single support is seen once more, enlarged, and a linear probe, fitted to the episode, is
added; the decoder's correction is taken where it helps on the supports themselves.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from model.common.fixed_shapes import shapes_are_fixed
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
    """What Pocket keeps beside the features of a support that all queries share, for the objects that it has had."""

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
        of_query, of_support = self.encode(episode)
        query, support = (self.levels(features, self.base_classifier) for features in (of_query, of_support))
        shots = episode.support.shape[1]
        supports = [support.rows(slice(k, None, shots)) for k in range(shots)]
        label_bkss, single = episode.support_label, shots == 1
        close = closeup(episode.support[:, 0], label_bkss[:, 0]) if single and not self.training else None
        if close is not None:
            supports.append(self.levels(self._encode_closeup(close, episode), self.base_classifier))
            label_bkss = torch.cat([label_bkss, close.label.unsqueeze(1)], dim=1)
        compared = self._compare(query, supports, label_bkss, photos=0 if self.training else shots)
        if not self.training and not self.adapting:
            judges = min(shots, JUDGES)
            helps_b111 = self._decoder_helps(supports[:judges], label_bkss[:, :judges], _shared_support(episode))
            fine_b1hw = compared["fine"]
            before = resize(compared["match"], fine_b1hw.shape[-2:]) if single else fine_b1hw - compared["correction"]
            compared["fine"] = torch.where(helps_b111, fine_b1hw, before)

        size = episode.query.shape[-2:]
        logits, match = (resize(_two_classes(compared[name]), size) for name in ("fine", "match"))
        output = Output(logits, extra={"match": match})
        if self.training:
            assert episode.query_base_label is not None  # the data set fills it: ``reads_base_labels``
            output.losses = self._losses(compared, episode.query_label)
            if single:  # the support as a query of its query
                back = self._compare(support, [query], episode.query_label.unsqueeze(1))
                other = self._losses(back, episode.support_label[:, 0])
                output.losses = {name: (loss + other[name]) / 2 for name, loss in output.losses.items()}
            output.losses["base"] = BASE * mask_loss(query.classes, episode.query_base_label[:, ::STRIDE, ::STRIDE])
        else:
            mask = foreground_mask(episode.support_label)
            output.presence_features = presence_features_of_maps(of_query.stage[HIGH], of_support.stage[HIGH], mask)
        return output

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

    def _decoder_helps(self, supports: Sequence[Levels], label_bkss: Tensor, shared: Features | None) -> Tensor:
        """Return for B episodes (B, 1, 1, 1) whether the decoder finds K supports about as well as what it corrects.

        Each support is the query of the others here, a single one its own. A decoder that fails there takes the object
        for background or for a base class, and would do so in the query. The result for supports that all queries share
        is kept with the first, ``shared``.
        """
        if shared is not None and not shapes_are_fixed():
            sums = torch.stack([support.joint[0].sum() for support in supports])  # others may have the same labels
            seen, labels = to_cpu([sums, label_bkss[0]])
            kept = shared.derived.setdefault("pocket", Kept()).decoder_helps
            key = (*seen.tolist(), zlib.crc32(labels.numpy().tobytes()))
            if key not in kept:
                one = [support.rows(slice(1)) for support in supports]
                kept[key] = self._decoder_helps(one, label_bkss[:1], None)
            return kept[key].expand(len(label_bkss), 1, 1, 1)
        gains, count = list[Tensor](), len(supports)
        for k in range(count):
            rest = [i for i in range(count) if i != k] or [k]
            photos = count - 1  # for the probe; in a single support it would find the object by its own positions
            found = self._compare(supports[k], [supports[i] for i in rest], label_bkss[:, rest], photos)
            before = found["fine"] - found["correction"] if photos else found["match"]
            gains.append(_iou(found["fine"], label_bkss[:, k]) - _iou(before, label_bkss[:, k]))
        return (torch.stack(gains).mean(0) >= -BEHIND)[:, None, None, None]

    def _compare(
        self, query: Levels, supports: Sequence[Levels], label_bkss: Tensor, photos: int = 0
    ) -> dict[str, Tensor]:
        """Return the logits of B queries, (B, 1, h, w) each, float32, from K views of supports each and their labels.

        They are ``guess``, ``second``, ``match``, ``coarse`` and, on the grid of ``Levels.fine``, ``fine`` and the
        decoder's ``correction`` in it. The views are of so many ``photos``, to which a probe is fitted; 0: none is.
        """
        size = query.joint.shape[-2:]
        masks = [mask(label_bkss).flatten(0, 1) for mask in (foreground_mask, background_mask)]
        objects, backs = (shares(mask, size).unflatten(0, label_bkss.shape[:2]) for mask in masks)
        found = self.comparison(query, supports, objects, backs)

        of_classes = base_maps(query.classes, torch.stack([shot.classes for shot in supports], dim=1), objects)
        means = [masked_mean(shot.joint, objects[:, k : k + 1], MASK_EPS) for k, shot in enumerate(supports)]
        mean_bc = mean_over_shots(torch.stack(means, dim=1), equal_weights(objects))
        coarse, fine = self.decoder(found, of_classes, query, mean_bc)
        correction = fine - resize(found.match, fine.shape[-2:])
        if photos == 1:  # too few for a probe: the query's own confident positions are the second photo
            probed = probe_with_query(query, supports, (objects, backs), (coarse + found.match) / 2, coarse)
            fine = fine + resize(probed, fine.shape[-2:])
        elif photos:
            fine = fine + resize(probe(query, supports, objects, backs), fine.shape[-2:])
        compared = {"guess": found.guess, "second": found.second, "match": found.match}
        return {**compared, "coarse": coarse, "fine": fine, "correction": correction}

    def _losses(self, logits: dict[str, Tensor], label_bss: Tensor) -> dict[str, Tensor]:
        weights, label = (
            {"fine": 1.0, "coarse": COARSE, "guess": COMPARED, "second": COMPARED},
            label_bss[:, ::STRIDE, ::STRIDE],
        )
        return {n: w * mask_loss(_two_classes(logits[n]), label, self._weighted) for n, w in weights.items()}

    def _weighted(self, logits_b2hw: Tensor, label_bhw: Tensor) -> Tensor:
        """Return cross-entropy with the foreground's weight, and a share of the Dice loss."""
        weighted = cross_entropy(logits_b2hw, label_bhw, self.settings.foreground_weight)
        return weighted + DICE * foreground_dice(logits_b2hw, label_bhw)


def _shared_support(episode: Episode) -> Features | None:
    """Return the cached features of the first of K supports that all queries share, if they do."""
    cached = episode.cached_support
    return cached[0] if cached is not None and sum(map(len, cached)) == episode.support.shape[1] else None


def _iou(logits_b1hw: Tensor, label_bss: Tensor) -> Tensor:
    """Return the IoU (B,) of masks and objects, in pixels of the labels."""
    is_object, counts = label_bss == 1, label_bss != IGNORE
    mask = (resize(logits_b1hw, label_bss.shape[-2:])[:, 0] > 0) & counts
    return (mask & is_object).sum((1, 2)) / (mask | is_object).sum((1, 2)).clamp(min=1)


def _two_classes(logits_b1hw: Tensor) -> Tensor:
    """Return two-class logits whose difference is the foreground's logit, background first."""
    return torch.cat([-logits_b1hw / 2, logits_b1hw / 2], dim=1)
