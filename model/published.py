"""The key layouts of authors' checkpoints, recognised by their tensor names and renamed to ours. Only here."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor

from model.swin import SWIN_NAMES

DDP_PREFIX = "module."
TITLES = {"swin_b": "Swin-B", "vgg16": "VGG-16"}
STAGE_3_BLOCKS = {(6, True): "ResNet-50", (23, True): "ResNet-101", (6, False): "ResNet-34", (2, False): "ResNet-18"}


@dataclass(frozen=True)
class Layout:
    """The tensor names of one method's checkpoints.

    Attributes:
        title: the method's name.
        signature: names that every checkpoint of the method holds, and no other method's.
        renames: published name -> ours, as regular expressions on whole names; ``\\1`` keeps a part.
        constants: expression on names of tensors that are computed here, or used by nobody, and so left out.
    """

    title: str
    signature: tuple[str, ...]
    renames: tuple[tuple[str, str], ...]
    constants: str | None = None

    def name(self, published: str) -> str:
        """Return our name of a published tensor; names it does not know stay as they are."""
        for pattern, ours in self.renames:
            if re.fullmatch(pattern, published):
                return re.sub(pattern, ours, published)
        return published

    def matches(self, names: Iterable[str]) -> bool:
        """Return whether these are the tensor names of this layout."""
        names = {name.removeprefix(DDP_PREFIX) for name in names}
        return all(name in names for name in self.signature)

    def translate(self, state: dict[str, Tensor]) -> dict[str, Tensor] | None:
        """Return a state dict under our names, or None when it is not of this layout."""
        if not self.matches(state):
            return None
        state = {name.removeprefix(DDP_PREFIX): tensor for name, tensor in state.items()}
        kept = {n: t for n, t in state.items() if self.constants is None or not re.fullmatch(self.constants, n)}
        return {self.name(name): tensor for name, tensor in kept.items()}


SYMNET = Layout(
    "Sym-Net",
    ("down_supp.0.weight", "hyper_final.conv1.weight", "CrossAttention.weight"),
    (
        (r"(layer[0-4]\..*)", r"encoder.\1"),
        (r"learner_base\.0\.features\.(\d)\.(.*)", r"base_learner.pyramid.\1.\2"),
        (r"learner_base\.1\.(.*)", r"base_learner.classify.\1"),
        (r"down_query\.0\.(.*)", r"project_query.0.\1"),
        (r"down_supp\.0\.(.*)", r"project_support.0.\1"),
        (r"kshot_rw\.(.*)", r"shot_weights.mix.\1"),
        (r"CrossAttention\.weight", r"align.bilinear"),
        (r"CrossAttention\.w_q\.(.*)", r"align.query.\1"),
        (r"CrossAttention\.w_k\.(.*)", r"align.key.\1"),
        (r"CrossAttention\.proj\.(.*)", r"align.project.\1"),
        (r"hyper_final\.conv1\.(.*)", r"fuse_correlation.enter.4.\1"),
        (r"hyper_final\.conv2\.(.*)", r"fuse_correlation.enter.3.\1"),
        (r"hyper_final\.conv3\.(.*)", r"fuse_correlation.enter.2.\1"),
        (r"hyper_final\.merge1\.(.*)", r"fuse_correlation.top.\1"),
        (r"hyper_final\.merge2\.(.*)", r"fuse_correlation.bottom.\1"),
        (r"init_merge\.(\d)\.0\.(.*)", r"decoder.enter.\1.0.\2"),
        (r"alpha_conv\.(\d)\.0\.(.*)", r"decoder.descend.\1.0.\2"),
        (r"beta_conv\.(\d)\.(.*)", r"decoder.refine.\1.body.\2"),
        (r"inner_cls\.(\d)\.0\.(.*)", r"decoder.auxiliary.\1.conv.\2"),
        (r"inner_cls\.(\d)\.3\.(.*)", r"decoder.auxiliary.\1.classify.\2"),
        (r"res1\.0\.(.*)", r"decoder.merge.0.\1"),
        (r"res2\.(.*)", r"decoder.refine_merged.body.\1"),
        (r"cls\.0\.(.*)", r"decoder.head.conv.\1"),
        (r"cls\.3\.(.*)", r"decoder.head.classify.\1"),
        (r"gram_merge\.(.*)", r"ensemble.scene.\1"),
        (r"cls_merge\.(.*)", r"ensemble.background.\1"),
    ),
)

SSP = Layout(
    "SSP",
    ("layer0.0.0.weight", "layer0.0.6.weight", "layer0.1.weight", "layer3.0.conv1.weight"),
    (
        (r"layer0\.0\.(.*)", r"encoder.layer0.\1"),
        (r"layer0\.1\.(.*)", r"encoder.layer0.7.\1"),
        (r"(layer[1-3]\..*)", r"encoder.\1"),
    ),
)

DCAMA = Layout(
    "DCAMA",
    ("model.DCAMA_blocks.0.linears.0.weight", "model.mixer1.0.weight"),
    (
        (r"feature_extractor\.conv1\.(.*)", r"encoder.layer0.0.\1"),
        (r"feature_extractor\.bn1\.(.*)", r"encoder.layer0.1.\1"),
        (r"feature_extractor\.(layer[1-4]\..*)", r"encoder.\1"),
        *((rf"feature_extractor\.{published}", rf"encoder.{ours}") for published, ours in SWIN_NAMES),
        *((rf"model\.DCAMA_blocks\.{i}\.linears\.0\.(.*)", rf"aggregate.{i + 2}.query.\1") for i in range(3)),
        *((rf"model\.DCAMA_blocks\.{i}\.linears\.1\.(.*)", rf"aggregate.{i + 2}.key.\1") for i in range(3)),
        *((rf"model\.conv{i}\.(.*)", rf"decoder.enter.{5 - i}.\1") for i in (1, 2, 3)),
        *((rf"model\.conv{i}\.(.*)", rf"decoder.merge.{7 - i}.\1") for i in (4, 5)),
        (r"model\.(mixer[1-3])\.(.*)", r"decoder.\1.\2"),
    ),
    r"model\.pe\..*|.*\.relative_position_index|.*\.attn_mask|feature_extractor\.(?:fc|norm|head)\..*",
)

_SCCAN_BLOCK = r"transformer\.layers\.0\.blocks\.(\d+)\."
SCCAN = Layout(
    "SCCAN",
    ("down_supp.0.weight", "init_merge_supp.0.weight", "transformer.norm0.weight", "ASPP_meta.layer6_0.0.weight"),
    (
        *((rf"backbone\.body\.conv{i + 1}\.(.*)", rf"encoder.layer0.{3 * i}.\1") for i in range(3)),
        *((rf"backbone\.body\.bn{i + 1}\.(.*)", rf"encoder.layer0.{3 * i + 1}.\1") for i in range(3)),
        (r"backbone\.body\.(layer[1-4]\..*)", r"encoder.\1"),
        (r"down_query\.0\.(.*)", r"project_query.0.\1"),
        (r"down_supp\.0\.(.*)", r"project_support.0.\1"),
        (r"init_merge_query\.0\.(.*)", r"fuse_query.conv.\1"),
        (r"init_merge_supp\.0\.(.*)", r"fuse_support.conv.\1"),
        (rf"{_SCCAN_BLOCK}(norm[12]\..*)", r"attend.blocks.\1.\2"),
        *(
            (rf"{_SCCAN_BLOCK}{theirs}_{branch[0]}\.{part}\.(.*)", rf"attend.blocks.\1.{ours}_{branch}.{name}.\2")
            for branch in ("query", "support")
            for theirs, ours, parts in (
                ("attn", "attend", {"q": "query", "kv": "key_value", "proj": "project"}),
                ("mlp", "mlp", {"fc1": "0", "fc2": "2"}),
            )
            for part, name in parts.items()
        ),
        (r"transformer\.norm0\.(.*)", r"attend.norm.\1"),
        (r"ASPP_meta\.layer6_0\.0\.(.*)", r"decoder.aspp.average.\1"),
        (r"ASPP_meta\.layer6_1\.0\.(.*)", r"decoder.aspp.point.\1"),
        *((rf"ASPP_meta\.layer6_{i + 2}\.0\.(.*)", rf"decoder.aspp.dilated.{i}.\1") for i in range(3)),
        (r"res1_meta\.0\.(.*)", r"decoder.merge.\1"),
        (r"res2_meta\.(.*)", r"decoder.refine.body.\1"),
        (r"cls_meta\.0\.(.*)", r"decoder.head.conv.\1"),
        (r"cls_meta\.3\.(.*)", r"decoder.head.classify.\1"),
    ),
)

MIX = r"transformer\.mix_transformer"
LEVEL = rf"{MIX}\.down_sample_layers\.(\d)"
ATTENTION, FEED_FORWARD = ("query", "key", "value", "out"), {0: "expand", 1: "depthwise", 4: "shrink"}
DECODED = ("enter", "enter_norm", "mix", "mix_norm", "leave", "leave_norm")  # a linear block's layers, in order

HDMNET = Layout(
    "HDMNet",
    ("supp_merge.0.weight", "transformer.mix_transformer.cls.4.weight"),
    (
        (r"(layer[0-4]\..*)", r"encoder.\1"),
        (r"ppm\.features\.(\d)\.(.*)", r"base_learner.pyramid.\1.\2"),
        (r"cls\.(.*)", r"base_learner.classify.\1"),
        (r"base_learnear\.2\.(.*)", r"base_learner.classify.4.\1"),
        (r"down_query\.0\.(.*)", r"project_query.0.\1"),
        (r"down_supp\.0\.(.*)", r"project_support.0.\1"),
        (r"kshot_rw\.(.*)", r"shot_weights.mix.\1"),
        (r"query_merge\.(.*)", r"merge_query.\1"),
        (r"supp_merge\.(.*)", r"merge_support.\1"),
        (rf"{LEVEL}\.0\.projection\.(.*)", r"pyramid.levels.\1.embed.\2"),
        (rf"{LEVEL}\.0\.norm\.(.*)", r"pyramid.levels.\1.embed_norm.\2"),
        (rf"{LEVEL}\.3\.(.*)", r"pyramid.levels.\1.norm.\2"),
        *(
            (rf"{LEVEL}\.{j + 1}\.{published}", rf"pyramid.levels.\1.{part}.{j}.{ours}")
            for j in range(2)
            for published, part, ours in (
                (r"norm1\.(.*)", "attention", r"norm.\2"),
                (r"attn\.sr\.(.*)", "attention", r"reduce.\2"),
                (r"attn\.norm\.(.*)", "attention", r"reduced_norm.\2"),
                *((rf"attn\.attn\.linear_{n[0]}\.(.*)", "attention", rf"linear.{n}.\2") for n in ATTENTION),
                (r"norm2\.(.*)", "feed_forward", r"norm.\2"),
                *((rf"ffn\.layers\.{i}\.(.*)", "feed_forward", rf"{n}.\2") for i, n in FEED_FORWARD.items()),
            )
        ),
        *(
            (rf"{MIX}\.match_layers\.(\d)\.{published}", ours)
            for published, ours in (
                (r"0\.norm1\.(.*)", r"match.\1.norm.\2"),
                *((rf"0\.attn\.attn\.linear_{n[0]}\.(.*)", rf"match.\1.linear.{n}.\2") for n in ATTENTION),
                (r"0\.norm2\.(.*)", r"match.\1.feed_forward.norm.\2"),
                *((rf"0\.ffn\.layers\.{i}\.(.*)", rf"match.\1.feed_forward.{n}.\2") for i, n in FEED_FORWARD.items()),
                (r"1\.conv\.(.*)", r"fuse.\1.0.\2"),
                (r"1\.bn\.(.*)", r"fuse.\1.1.\2"),
            )
        ),
        *((rf"{MIX}\.parse_layers\.(\d)\.{i}\.(.*)", rf"decoder.refine.\1.{n}.\2") for i, n in enumerate(DECODED)),
        *((rf"{MIX}\.cls\.{i}\.(.*)", rf"decoder.head.{n}.\1") for i, n in enumerate(DECODED)),
        (r"gram_merge\.(.*)", r"ensemble.scene.\1"),
        (r"cls_merge\.(.*)", r"ensemble.background.\1"),
    ),
    r"transformer\..*\.num_batches_tracked",
)

LAYOUTS = (SYMNET, SSP, DCAMA, HDMNET, SCCAN)


def layout_of(state: dict[str, Tensor]) -> Layout | None:
    """Return the layout of an authors' checkpoint, None for one not known here."""
    return next((layout for layout in LAYOUTS if layout.matches(state)), None)


def recognise(state: dict[str, Tensor]) -> str | None:
    """Return in words whose checkpoint this is, such as ``DCAMA Swin-B``; None for a layout not known here."""
    layout = layout_of(state)
    return f"{layout.title} {_network(state)}".strip() if layout else None


def _network(names: Iterable[str]) -> str:
    names = list(names)
    if any(".layers.3." in name for name in names):
        return "Swin-B"
    blocks = {m[1] for name in names if (m := re.search(r"(?:^|\.)layer3\.(\d+)\.conv1\.weight$", name))}
    bottlenecks = any(name.endswith("layer3.0.conv3.weight") for name in names)
    unknown = "VGG-16" if not blocks else f"ResNet with {len(blocks)} blocks in stage 3"
    return STAGE_3_BLOCKS.get((len(blocks), bottlenecks), unknown)


def network_title(backbone: str | None) -> str:
    """Return a network's name in the words of ``recognise``."""
    return "" if backbone is None else TITLES.get(backbone, backbone.replace("resnet", "ResNet-"))


from_symnet, symnet_name = SYMNET.translate, SYMNET.name
from_ssp, from_dcama = SSP.translate, DCAMA.translate
from_hdmnet, from_sccan = HDMNET.translate, SCCAN.translate
