"""HDMNet: match query and supports on three grids, with an attention normalised over the query. See ``HDMNet.forward``.

A frozen encoder and base learner (after BAM), supports masked as images, a token pyramid shared by query and supports,
matching at each level, a linear decoder, and the ensemble with the base learner. Coarse correlation maps teach finer
ones (``transformer.py``): out_i = sum_j m_j softmax_i(s_ij) v_j over query positions i and support positions j,
c_i = sum_j m_j s_ij / sum_j m_j, and the distillation is the mean over levels of KL(t || softmax(c)).
Source: Peng et al., Hierarchical Dense Correlation Distillation for Few-Shot Segmentation, CVPR 2023 (arXiv
2303.14652).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.common.fixed_shapes import chosen
from model.common.layers import WIDTH, pointwise
from model.common.ops import foreground_mask, masked_mean, mean_over_shots, resize
from model.common.presence import presence_features_of_maps
from model.common.prototype import greatest_cosine
from model.common.published import ENCODER, ENSEMBLE, PROJECTIONS, Layout
from model.common.with_base_learner import Ensemble, WithBaseLearner, WithBaseSettings, gram, gram_distance
from model.common.with_encoder import HIGH, LOW, mid_features, on_one_grid
from model.contract import Episode, Output, ParamGroup, Task, register
from model.encoders.features import Features
from model.hdmnet.decoder import FixedNorm, LinearDecoder
from model.hdmnet.transformer import CHANNELS, LEVELS, MIN_GRID, QueryMatching, TokenPyramid, correlation_distillation

SIMILARITIES = 2  # from h5 and from f4
SHARPENED = 10.0  # factor of the similarity among the query's inputs
# Parts of published names, and of ours.
MIX = r"transformer\.mix_transformer"
LEVEL = rf"{MIX}\.down_sample_layers\.(\d)"
MATCH = rf"{MIX}\.match_layers\.(\d)"
ATTENTION, FEED_FORWARD = ("query", "key", "value", "out"), {0: "expand", 1: "depthwise", 4: "shrink"}
DECODED = ("enter", "enter_norm", "mix", "mix_norm", "leave", "leave_norm")  # a linear block's layers, in order


def _attention_names(published: str, ours: str) -> list[tuple[str, str]]:
    """Return the renames of the four linear maps of an attention."""
    return [(rf"{published}\.linear_{name[0]}\.(.*)", rf"{ours}.linear.{name}.\2") for name in ATTENTION]


def _feed_forward_names(published: str, ours: str) -> list[tuple[str, str]]:
    """Return the renames of the layers of a feed-forward."""
    return [(rf"{published}\.layers\.{i}\.(.*)", rf"{ours}.{name}.\2") for i, name in FEED_FORWARD.items()]


def _block_names(number: int) -> list[tuple[str, str]]:
    """Return the renames of one self-attention block in every level of the pyramid."""
    published = rf"{LEVEL}\.{number + 1}"
    attention = rf"pyramid.levels.\1.attention.{number}"
    feed_forward = rf"pyramid.levels.\1.feed_forward.{number}"
    return [
        (rf"{published}\.norm1\.(.*)", rf"{attention}.norm.\2"),
        (rf"{published}\.attn\.sr\.(.*)", rf"{attention}.reduce.\2"),
        (rf"{published}\.attn\.norm\.(.*)", rf"{attention}.reduced_norm.\2"),
        *_attention_names(rf"{published}\.attn\.attn", attention),
        (rf"{published}\.norm2\.(.*)", rf"{feed_forward}.norm.\2"),
        *_feed_forward_names(rf"{published}\.ffn", feed_forward),
    ]


PYRAMID_NAMES = (
    (rf"{LEVEL}\.0\.projection\.(.*)", r"pyramid.levels.\1.embed.\2"),
    (rf"{LEVEL}\.0\.norm\.(.*)", r"pyramid.levels.\1.embed_norm.\2"),
    (rf"{LEVEL}\.3\.(.*)", r"pyramid.levels.\1.norm.\2"),
    *(*_block_names(0), *_block_names(1)),
)
MATCH_NAMES = (
    (rf"{MATCH}\.0\.norm1\.(.*)", r"match.\1.norm.\2"),
    *_attention_names(rf"{MATCH}\.0\.attn\.attn", r"match.\1"),
    (rf"{MATCH}\.0\.norm2\.(.*)", r"match.\1.feed_forward.norm.\2"),
    *_feed_forward_names(rf"{MATCH}\.0\.ffn", r"match.\1.feed_forward"),
    (rf"{MATCH}\.1\.conv\.(.*)", r"fuse.\1.0.\2"),
    (rf"{MATCH}\.1\.bn\.(.*)", r"fuse.\1.1.\2"),
)
DECODER_NAMES = (
    *((rf"{MIX}\.parse_layers\.(\d)\.{i}\.(.*)", rf"decoder.refine.\1.{n}.\2") for i, n in enumerate(DECODED)),
    *((rf"{MIX}\.cls\.{i}\.(.*)", rf"decoder.head.{n}.\1") for i, n in enumerate(DECODED)),
)
LAYOUT = Layout(
    "HDMNet",
    ("supp_merge.0.weight", "transformer.mix_transformer.cls.4.weight"),
    (
        *(*ENCODER, *PROJECTIONS, *ENSEMBLE),
        (r"ppm\.features\.(\d)\.(.*)", r"base_learner.pyramid.\1.\2"),
        (r"cls\.(.*)", r"base_learner.classify.\1"),
        (r"base_learnear\.2\.(.*)", r"base_learner.classify.4.\1"),
        (r"query_merge\.(.*)", r"merge_query.\1"),
        (r"supp_merge\.(.*)", r"merge_support.\1"),
        *(*PYRAMID_NAMES, *MATCH_NAMES, *DECODER_NAMES),
    ),
    r"transformer\..*\.num_batches_tracked",
)


@dataclass
class HDMNetSettings(WithBaseSettings):
    """HDMNet's own settings; ``config/model/hdmnet.yaml`` explains them."""

    transformer_lr_factor: float = field(default=0.1, metadata={"low": 0})
    even_teacher: bool = False

    def problem(self, size: int) -> tuple[str, str] | None:
        """Return (key, problem and remedy) if the pyramid's finest grid is too small; None if it is not."""
        grid = self.encoder.grid(size)
        if grid >= MIN_GRID:
            return None
        what = f"gives a grid of {grid} x {grid} at data.size {size}, the token pyramid takes {MIN_GRID} x {MIN_GRID}"
        return "encoder", f"= {self.encoder.backbone} {what}; set a larger data.size"


@register("hdmnet")
class HDMNet(WithBaseLearner):
    """The published method; every module below is one of its ideas."""

    Settings = HDMNetSettings
    title = "HDMNet"
    published = LAYOUT
    masks_supports = True  # pixels outside the object are masked before the encoder
    settings: HDMNetSettings

    def __init__(self, settings: HDMNetSettings, task: Task):
        # Published weights follow the rank of a distance and are applied by position: see ShotWeights.
        super().__init__(settings, task, weights_in_shot_order=False)
        self.merge_query = pointwise(2 * WIDTH + SIMILARITIES, CHANNELS)
        self.merge_support = pointwise(2 * WIDTH, CHANNELS)
        self.pyramid = TokenPyramid()
        self.match = nn.ModuleList(QueryMatching() for _ in LEVELS)
        self.fuse = nn.ModuleList()
        for _ in LEVELS:
            conv = nn.Conv2d(CHANNELS + SIMILARITIES, CHANNELS, 3, padding=1, bias=False)
            nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
            self.fuse.append(nn.Sequential(conv, FixedNorm(CHANNELS), nn.ReLU(inplace=True)))
        self.decoder = LinearDecoder(CHANNELS, len(LEVELS))
        self.ensemble = Ensemble()
        self.freeze()

    def forward(self, episode: Episode) -> Output:
        """Return final, base and (in ``extra``) ``meta`` logits (B, 2 or N + 1, S, S), and in training the losses."""
        batch, shots = episode.support.shape[:2]
        mask = foreground_mask(episode.support_label)  # M_k, (B, K, 1, S, S)

        # Encoder (frozen unless a part of it learns), base learner, and everything computed from them alone.
        with self.encoder_grad():
            query, support = self.encode_both(episode)
            query, support = on_one_grid(query), on_one_grid(support)
            hidden = self.query_hidden(episode, query)  # h5
            base_logits = self.base_learner.logits(self.base_dropout(hidden))
            similarity = self._similarity(query, support, hidden, mask)  # A, (B, 2, h, w)
            grams = gram(support.stage[LOW]).unflatten(0, (batch, shots))  # G_k, (B, K, C, C)
            distance = gram_distance(gram(query.stage[LOW]), grams)  # e_k, (B, K)
        scene = mean_over_shots(distance, self.shot_weights(distance))  # e, (B,)

        # Inputs of the transformer: features, prototypes, and for the query its similarity.
        query_feature = self.project_query(mid_features(query))  # X_q, (B, 256, h, w)
        support_feature = self.project_support(mid_features(support))  # x_k, (B * K, 256, h, w)
        small_mask = resize(mask.flatten(0, 1), query_feature.shape[-2:])
        prototype = masked_mean(support_feature, small_mask)  # p_k, (B * K, 256)
        mean_prototype = mean_over_shots(prototype.unflatten(0, (batch, shots)))  # p
        query_map = self.merge_query(_beside(query_feature, mean_prototype, SHARPENED * similarity))  # X
        support_map = self.merge_support(_beside(support_feature, prototype))  # X_k, (B * K, 64, h, w)

        # Match level by level, decode, then correct the prediction by the base learner's.
        levels = self.pyramid(torch.cat([query_map, support_map]))
        objects = chosen(*(_on_grid(mask, level.shape[-2:]).flatten(1) > 0 for level in levels))  # over all shots
        fused = []  # z_i, (B, 64, h_i, w_i)
        correlation = []  # c_i, (B, h_i, w_i)
        for level, match, fuse, inside in zip(levels, self.match, self.fuse, objects, strict=True):
            level_query, level_support = level[:batch], level[batch:].unflatten(0, (batch, shots))
            matched, logits = match(level_query, level_support, inside)
            level_similarity = resize(similarity, level.shape[-2:]).to(matched.dtype)
            fused.append(fuse(torch.cat([matched, level_similarity], dim=1)))
            correlation.append(logits)
        meta = self.decoder(fused)
        output = self.corrected(episode, meta, base_logits, scene)
        output.maps |= {"similarity": similarity.mean(1), "correlation": correlation[0].detach().sigmoid()}
        if self.training:
            even = self.settings.even_teacher
            output.losses["distil"] = correlation_distillation(correlation, episode.query_label, even)
        else:
            output.presence_features = presence_features_of_maps(query.stage[HIGH], support.stage[HIGH], mask)
        return output

    def support_input(self, support: Tensor, support_label: Tensor) -> Tensor:
        """Return the normalised supports with every pixel outside the object set to the mean colour."""
        return super().support_input(support, support_label) * foreground_mask(support_label)

    def _similarity(self, query: Features, support: Features, hidden_bchw: Tensor, mask_bk1hw: Tensor) -> Tensor:
        """Return A = [A_5; A_4]: the query's similarity to the supports in h5 and in f4, (B, 2, h, w) float32."""
        is_object_bkhw = _on_grid(mask_bk1hw, hidden_bchw.shape[-2:]) > 0
        [objects] = chosen(is_object_bkhw.flatten(0, 1).flatten(1))
        support_f4 = support.stage[HIGH]
        support_hidden = self.base_learner.hidden_at(support_f4, objects).split(objects.counts)
        support_high = objects.rows(support_f4.flatten(2).transpose(1, 2))
        hidden_similarity = greatest_cosine(hidden_bchw, support_hidden).mean(1)
        high_similarity = greatest_cosine(query.stage[HIGH], support_high).mean(1)
        return torch.stack([hidden_similarity, high_similarity], dim=1)

    def param_groups(self) -> list[ParamGroup]:
        """Return transformer and projections, and the shots' weights at rate 0, as the published optimiser."""
        transformer = nn.ModuleList([self.pyramid, self.match, self.fuse, self.decoder])
        projections = self.project_query, self.project_support, self.merge_query, self.merge_support
        others = nn.ModuleList([*projections, self.ensemble])
        groups = [
            ParamGroup("transformer", list(transformer.parameters()), self.settings.transformer_lr_factor),
            ParamGroup("others", list(others.parameters())),
            ParamGroup("shot_weights", list(self.shot_weights.parameters()), factor=0.0),
        ]
        return [*(group for group in groups if group.params), *self.encoder_group()]


def _on_grid(mask_bk1hw: Tensor, size: Sequence[int]) -> Tensor:
    """Return masks resized to a grid by their nearest pixels, (B, K, h, w)."""
    small = F.interpolate(mask_bk1hw.flatten(0, 1), size=tuple(size), mode="nearest")[:, 0]
    return small.unflatten(0, mask_bk1hw.shape[:2])


def _beside(feature_bchw: Tensor, vector_bc: Tensor, *maps_bnhw: Tensor) -> Tensor:
    """Return the concatenation of a map, a vector repeated at each of its positions, and further maps."""
    spread = vector_bc[:, :, None, None].expand(-1, -1, *feature_bchw.shape[-2:])
    return torch.cat([feature_bchw, spread, *(m.to(feature_bchw.dtype) for m in maps_bnhw)], dim=1)
