"""The tensor names of SCCAN's published checkpoints, and ours."""

from __future__ import annotations

from model.common.published import Layout

BLOCK = r"transformer\.layers\.0\.blocks\.(\d+)\."
LAYOUT = Layout(
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
        (rf"{BLOCK}(norm[12]\..*)", r"attend.blocks.\1.\2"),
        *(
            (rf"{BLOCK}{theirs}_{branch[0]}\.{part}\.(.*)", rf"attend.blocks.\1.{ours}_{branch}.{name}.\2")
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
