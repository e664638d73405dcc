"""The tensor names of HDMNet's published checkpoints, and ours."""

from __future__ import annotations

from model.common.published import ENCODER, ENSEMBLE, PROJECTIONS, Layout

MIX = r"transformer\.mix_transformer"
LEVEL = rf"{MIX}\.down_sample_layers\.(\d)"
ATTENTION, FEED_FORWARD = ("query", "key", "value", "out"), {0: "expand", 1: "depthwise", 4: "shrink"}
DECODED = ("enter", "enter_norm", "mix", "mix_norm", "leave", "leave_norm")  # a linear block's layers, in order

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
    ),
    r"transformer\..*\.num_batches_tracked",
)
