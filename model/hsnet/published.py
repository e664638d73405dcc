"""The tensor names of HSNet's published checkpoints, and those of this project."""

from model.encoders.vgg import PLAIN_ENDS
from model.published import Layout

# Published names of the squeeze's parts, and ours.
SEQUENCES = {f"encoder_layer{level}": f"squeeze.levels.{level}.blocks" for level in (4, 3, 2)}
SEQUENCES |= {"encoder_layer4to3": "squeeze.mix.3", "encoder_layer3to2": "squeeze.mix.2"}
STARTS = (0, *PLAIN_ENDS)  # of VGG's stages
LAYOUT = Layout(
    "HSNet",
    ("hpn_learner.encoder_layer4.0.conv1.weight", "hpn_learner.decoder2.2.weight"),
    (
        (r"backbone\.conv1\.(.*)", r"encoder.layer0.0.\1"),
        (r"backbone\.bn1\.(.*)", r"encoder.layer0.1.\1"),
        (r"backbone\.(layer[1-4]\..*)", r"encoder.\1"),
        *(
            (rf"backbone\.features\.{i}\.(.*)", rf"encoder.layer{stage}.{i - STARTS[stage]}.\1")
            for stage, end in enumerate(PLAIN_ENDS)
            for i in range(STARTS[stage], end)
        ),
        *(
            (rf"hpn_learner\.{theirs}\.(\d)\.{conv}\.(.*)", rf"{ours}.\1.{over}.\2")
            for theirs, ours in SEQUENCES.items()
            for conv, over in (("conv1", "over_query"), ("conv2", "over_support"))
        ),
        *((rf"hpn_learner\.{theirs}\.(\d\..*)", rf"{ours}.\1") for theirs, ours in SEQUENCES.items()),
        (r"hpn_learner\.decoder1\.(.*)", r"decoder.coarse.\1"),
        (r"hpn_learner\.decoder2\.(.*)", r"decoder.fine.\1"),
    ),
    r"backbone\.(?:fc|classifier)\..*",
)
