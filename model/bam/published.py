"""The tensor names of BAM's published checkpoints, and ours."""

from __future__ import annotations

from model.common.published import Layout

LAYOUT = Layout(
    "BAM",
    ("learner_base.1.0.weight", "init_merge.0.weight", "ASPP_meta.layer6_0.0.weight"),
    (
        (r"(layer[0-4]\..*)", r"encoder.\1"),
        (r"learner_base\.0\.features\.(\d)\.(.*)", r"base_learner.pyramid.\1.\2"),
        (r"learner_base\.1\.(.*)", r"base_learner.classify.\1"),
        (r"down_query\.0\.(.*)", r"project_query.0.\1"),
        (r"down_supp\.0\.(.*)", r"project_support.0.\1"),
        (r"kshot_rw\.(.*)", r"shot_weights.mix.\1"),
        (r"init_merge\.0\.(.*)", r"fuse.conv.\1"),
        (r"ASPP_meta\.layer6_0\.0\.(.*)", r"decoder.aspp.average.\1"),
        (r"ASPP_meta\.layer6_1\.0\.(.*)", r"decoder.aspp.point.\1"),
        *((rf"ASPP_meta\.layer6_{i + 2}\.0\.(.*)", rf"decoder.aspp.dilated.{i}.\1") for i in range(3)),
        (r"res1_meta\.0\.(.*)", r"decoder.merge.\1"),
        (r"res2_meta\.(.*)", r"decoder.refine.body.\1"),
        (r"cls_meta\.0\.(.*)", r"decoder.head.conv.\1"),
        (r"cls_meta\.3\.(.*)", r"decoder.head.classify.\1"),
        (r"gram_merge\.(.*)", r"ensemble.scene.\1"),
        (r"cls_merge\.(.*)", r"ensemble.background.\1"),
    ),
)
