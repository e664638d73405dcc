"""VGG-16 with batch norm as an encoder, from torchvision."""

from __future__ import annotations

from torch import Tensor, nn

from model.encoders.encoder import INTERMEDIATE_STAGES, LAST_STAGE, MEMORY_FORMAT, Encoder, Intermediate
from model.encoders.features import Features

STAGE_ENDS = (7, 14, 24, 34, 43)  # in torchvision's list: after each pool but the last, then after the last ReLU
CHANNELS = {2: 256, 3: 512, 4: 512}
INTERMEDIATE_COUNTS = {2: 3, 3: 3, 4: 1}
VGG_STRIDE = 16  # of stages 3 and 4; pools round up
TORCHVISION_PREFIX = "features."


class VGGEncoder(Encoder):
    """VGG-16 with batch norm and ceil-mode pools: stage 2 at stride 8, stages 3 and 4 at stride 16.

    Intermediate features: the raw outputs of the three convolutions of stage 3, which are still at stride 8, count as
    those of stage 2, the convolutions of stage 4 as those of stage 3, and the output of stage 4 as that of stage 4.
    """

    names_in_files = r"(layer[0-4]|features|classifier)\."

    def __init__(self, last_stage: int = LAST_STAGE):
        from torchvision.models.vgg import vgg16_bn  # takes seconds

        super().__init__()
        layers = list(vgg16_bn(weights=None).features)
        for layer in layers:
            if isinstance(layer, nn.MaxPool2d):
                layer.ceil_mode = True
        starts = (0, *STAGE_ENDS[:-1])
        for i, (start, end) in enumerate(zip(starts, STAGE_ENDS, strict=True)):
            if i <= last_stage:
                setattr(self, f"layer{i}", nn.Sequential(*layers[start:end]))
        self.last_stage = last_stage
        self.channels = {i: c for i, c in CHANNELS.items() if i <= last_stage}
        self.intermediate_counts = {i: n for i, n in INTERMEDIATE_COUNTS.items() if i <= last_stage}
        self.to(memory_format=MEMORY_FORMAT)

    def forward(self, image_b3hw: Tensor, intermediate: Intermediate = False) -> Features:
        """See :class:`Encoder`."""
        out = Features({}, {stage: [] for stage in INTERMEDIATE_STAGES})
        give = intermediate if callable(intermediate) else out.add_intermediate
        x = self.stage(1)(self.stage(0)(image_b3hw))
        for i in range(INTERMEDIATE_STAGES[0], self.last_stage + 1):
            for layer in self.stage(i):
                x = layer(x)
                if intermediate and i > INTERMEDIATE_STAGES[0] and isinstance(layer, nn.Conv2d):
                    give(i - 1, x)
            out.stage[i] = x
        if intermediate and self.last_stage == LAST_STAGE:
            give(LAST_STAGE, x)
        return out

    def own_names(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Split torchvision's flat list of layers into stages; its classifier is left out."""
        if f"{TORCHVISION_PREFIX}0.weight" not in state:
            return state
        ends, out = (0, *STAGE_ENDS), {}
        for name, tensor in state.items():
            if name.startswith(TORCHVISION_PREFIX):
                _, index, leaf = name.split(".")
                stage = max(i for i in range(LAST_STAGE + 1) if int(index) >= ends[i])
                out[f"layer{stage}.{int(index) - ends[stage]}.{leaf}"] = tensor
        return out

    @staticmethod
    def describe_weights(state: dict[str, Tensor]) -> str | None:
        """Recognise the family by its first convolution, which has a bias."""
        ours = "layer0.0.bias" in state and "merge1.norm.weight" not in state
        return "a VGG-16" if ours or f"{TORCHVISION_PREFIX}0.weight" in state else None


def vgg_grid(size: int) -> int:
    """Return the side of stage 3's grid for an image of ``size`` pixels."""
    return -(-size // VGG_STRIDE)
