"""DCAMA's published tensor names."""

from model.encoders.swin import SWIN_NAMES
from model.published import Layout

ENCODER_NAMES = (  # published, and ours
    (r"feature_extractor\.conv1\.(.*)", r"encoder.layer0.0.\1"),
    (r"feature_extractor\.bn1\.(.*)", r"encoder.layer0.1.\1"),
    (r"feature_extractor\.(layer[1-4]\..*)", r"encoder.\1"),
    *((rf"feature_extractor\.{published}", rf"encoder.{ours}") for published, ours in SWIN_NAMES),
)
ATTENTION_NAMES = (
    *((rf"model\.DCAMA_blocks\.{i}\.linears\.0\.(.*)", rf"aggregate.{i + 2}.query.\1") for i in range(3)),
    *((rf"model\.DCAMA_blocks\.{i}\.linears\.1\.(.*)", rf"aggregate.{i + 2}.key.\1") for i in range(3)),
)
DECODER_NAMES = (
    *((rf"model\.conv{i}\.(.*)", rf"decoder.enter.{5 - i}.\1") for i in (1, 2, 3)),
    *((rf"model\.conv{i}\.(.*)", rf"decoder.merge.{7 - i}.\1") for i in (4, 5)),
    (r"model\.(mixer[1-3])\.(.*)", r"decoder.\1.\2"),
)
LAYOUT = Layout(
    "DCAMA",
    ("model.DCAMA_blocks.0.linears.0.weight", "model.mixer1.0.weight"),
    (*ENCODER_NAMES, *ATTENTION_NAMES, *DECODER_NAMES),
    r"model\.pe\..*|.*\.relative_position_index|.*\.attn_mask|feature_extractor\.(?:fc|norm|head)\..*",
)
