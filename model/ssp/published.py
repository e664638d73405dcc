"""The tensor names of SSP's published checkpoints, and those of this project."""

from model.published import Layout

LAYOUT = Layout(
    "SSP",
    ("layer0.0.0.weight", "layer0.0.6.weight", "layer0.1.weight", "layer3.0.conv1.weight"),
    (
        (r"layer0\.0\.(.*)", r"encoder.layer0.\1"),
        (r"layer0\.1\.(.*)", r"encoder.layer0.7.\1"),
        (r"(layer[1-3]\..*)", r"encoder.\1"),
    ),
)
