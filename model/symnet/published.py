"""The tensor names of Sym-Net's published checkpoints, and those of this project."""

from model.published import BASE_LEARNER, ENCODER, ENSEMBLE, PROJECTIONS, Layout, enrichment

LAYOUT = Layout(
    "Sym-Net",
    ("down_supp.0.weight", "hyper_final.conv1.weight", "CrossAttention.weight"),
    (
        *(*ENCODER, *BASE_LEARNER, *PROJECTIONS, *ENSEMBLE),
        (r"CrossAttention\.weight", r"align.bilinear"),
        (r"CrossAttention\.w_q\.(.*)", r"align.query.\1"),
        (r"CrossAttention\.w_k\.(.*)", r"align.key.\1"),
        (r"CrossAttention\.proj\.(.*)", r"align.project.\1"),
        *((rf"hyper_final\.conv{i}\.(.*)", rf"fuse_correlation.enter.{5 - i}.\1") for i in (1, 2, 3)),
        (r"hyper_final\.merge1\.(.*)", r"fuse_correlation.top.\1"),
        (r"hyper_final\.merge2\.(.*)", r"fuse_correlation.bottom.\1"),
        *enrichment("decoder"),
    ),
)
