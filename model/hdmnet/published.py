"""HDMNet's published tensor names."""

from model.published import ENCODER, ENSEMBLE, PROJECTIONS, PYRAMID_BASE_LEARNER, Layout

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
        *(*ENCODER, *PROJECTIONS, *ENSEMBLE, *PYRAMID_BASE_LEARNER),
        (r"base_learnear\.2\.(.*)", r"base_learner.classify.4.\1"),
        (r"query_merge\.(.*)", r"merge_query.\1"),
        (r"supp_merge\.(.*)", r"merge_support.\1"),
        *(*PYRAMID_NAMES, *MATCH_NAMES, *DECODER_NAMES),
    ),
    r"transformer\..*\.num_batches_tracked",
)
