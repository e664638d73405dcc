"""The tensor names of BAM's published checkpoints, and those of this project."""

from model.published import ASPP_DECODER, BASE_LEARNER, ENCODER, ENSEMBLE, PROJECTIONS, Layout

LAYOUT = Layout(
    "BAM",
    ("learner_base.1.0.weight", "init_merge.0.weight", "ASPP_meta.layer6_0.0.weight"),
    (
        *(*ENCODER, *BASE_LEARNER, *PROJECTIONS, *ENSEMBLE, *ASPP_DECODER),
        (r"init_merge\.0\.(.*)", r"fuse.conv.\1"),
    ),
)
