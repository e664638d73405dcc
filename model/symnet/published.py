"""The tensor names of Sym-Net's published checkpoints, and those of this project."""

from model.published import BASE_LEARNER, ENCODER, ENSEMBLE, PROJECTIONS, Layout

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
        (r"init_merge\.(\d)\.0\.(.*)", r"decoder.enter.\1.0.\2"),
        (r"alpha_conv\.(\d)\.0\.(.*)", r"decoder.descend.\1.0.\2"),
        (r"beta_conv\.(\d)\.(.*)", r"decoder.refine.\1.body.\2"),
        (r"inner_cls\.(\d)\.0\.(.*)", r"decoder.auxiliary.\1.conv.\2"),
        (r"inner_cls\.(\d)\.3\.(.*)", r"decoder.auxiliary.\1.classify.\2"),
        (r"res1\.0\.(.*)", r"decoder.merge.0.\1"),
        (r"res2\.(.*)", r"decoder.refine_merged.body.\1"),
        (r"cls\.0\.(.*)", r"decoder.head.conv.\1"),
        (r"cls\.3\.(.*)", r"decoder.head.classify.\1"),
    ),
)
