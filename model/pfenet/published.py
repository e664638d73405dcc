"""The tensor names of PFENet's published checkpoints, and those of this project."""

from model.published import ENCODER, PROJECTIONS, Layout, enrichment

LAYOUT = Layout(
    "PFENet",
    ("down_supp.0.weight", "init_merge.0.0.weight", "inner_cls.0.0.weight"),
    (*ENCODER, *PROJECTIONS, *enrichment("enrich")),
    absent=("hyper_final.conv1.weight", "CrossAttention.weight", "learner_base.1.0.weight"),  # Sym-Net has all others
)
