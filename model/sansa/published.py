"""The tensor names of SANSA's published adapter files, which hold nothing of SAM 2, and those of this project."""

from model.published import Layout

BLOCK = r"sam\.image_encoder\.trunk\.blocks\.(\d+)\.adapter"
LAYOUT = Layout(
    "SANSA",
    ("sam.image_encoder.trunk.blocks.8.adapter.down_proj.weight",),  # a block that has an adapter in all sizes
    (
        (rf"{BLOCK}\.adapter_layer_norm_before\.(.*)", r"adapters.\1.norm.\2"),
        (rf"{BLOCK}\.down_proj\.(.*)", r"adapters.\1.down.\2"),
        (rf"{BLOCK}\.up_proj\.(.*)", r"adapters.\1.up.\2"),
    ),
)
