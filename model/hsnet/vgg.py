"""HSNet's VGG-16: torchvision's network without batch norm, whose pools round down."""

from __future__ import annotations

from torch import Tensor, nn

from model.encoders.encoder import INTERMEDIATE_STAGES, LAST_STAGE, MEMORY_FORMAT, Encoder, Intermediate
from model.encoders.features import Features
from model.encoders.vgg import TORCHVISION_PREFIX
from model.encoders.weights import FIRST_RELEASE
from model.mismatch import Mismatch

NAME = "vgg16"  # in configs and in torchvision
STAGE_ENDS = (5, 10, 17, 24, 31)  # in torchvision's list of layers: after each pool
CHANNELS = 512  # of all intermediate features
INTERMEDIATE_COUNTS = {2: 3, 3: 3, 4: 1}


class PlainVGGEncoder(Encoder):
    """VGG-16 without batch norm: five groups of convolutions, each with a pool at its end, as stages 0 to 4.

    Intermediate features: the raw outputs of the convolutions of the fourth and the fifth group count as those of
    stages 2 and 3, at strides 8 and 16; the output of the last pool, at stride 32, as that of stage 4.
    """

    names_in_files = r"(layer[0-4]|features|classifier)\."

    def __init__(self):
        from torchvision.models.vgg import vgg16  # takes seconds

        super().__init__()
        layers = list(vgg16(weights=None).features)
        for i, (start, end) in enumerate(zip((0, *STAGE_ENDS[:-1]), STAGE_ENDS, strict=True)):
            setattr(self, f"layer{i}", nn.Sequential(*layers[start:end]))
        for layer in (*self.stage(3), *self.stage(LAST_STAGE)):
            if isinstance(layer, nn.ReLU):
                layer.inplace = False  # its input is an intermediate feature
        self.last_stage = LAST_STAGE
        self.channels = dict.fromkeys(INTERMEDIATE_STAGES, CHANNELS)
        self.intermediate_counts = dict(INTERMEDIATE_COUNTS)
        self.to(memory_format=MEMORY_FORMAT)

    def forward(self, image_b3hw: Tensor, intermediate: Intermediate = False) -> Features:
        """See :class:`Encoder`; only the output of stage 4 is returned beside the intermediate features."""
        out = Features({}, {stage: [] for stage in INTERMEDIATE_STAGES})
        give = intermediate if callable(intermediate) else out.add_intermediate
        x = image_b3hw
        for i in range(LAST_STAGE + 1):
            for layer in self.stage(i):
                x = layer(x)
                if intermediate and i > INTERMEDIATE_STAGES[0] and isinstance(layer, nn.Conv2d):
                    give(i - 1, x)
        if intermediate:
            give(LAST_STAGE, x)
        out.stage[LAST_STAGE] = x
        return out

    @staticmethod
    def own_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Split torchvision's flat list of layers into stages; its classifier is left out."""
        if f"{TORCHVISION_PREFIX}0.weight" not in state:
            return state
        return {own_name(name): x for name, x in state.items() if name.startswith(TORCHVISION_PREFIX)}

    @staticmethod
    def describe_weights(state: dict[str, Tensor]) -> str | None:
        """Recognise the family by its first convolution, which has a bias and no norm behind it."""
        names = ("layer0.0.bias", f"{TORCHVISION_PREFIX}0.bias")
        return "a VGG-16 without batch norm" if any(name in state for name in names) else None


def own_name(name: str) -> str:
    """Return our name of torchvision's tensor ``features.<position>.<kind>``."""
    _, position, leaf = name.split(".")
    starts = (0, *STAGE_ENDS[:-1])
    stage = max(i for i, start in enumerate(starts) if int(position) >= start)
    return f"layer{stage}.{int(position) - starts[stage]}.{leaf}"


def download_vgg() -> dict[str, Tensor]:
    """Return torchvision's ImageNet weights of VGG-16 without batch norm.

    Raises:
        Mismatch: they could not be fetched.
    """
    from torchvision.models import get_model_weights  # takes seconds

    try:
        return get_model_weights(NAME)[FIRST_RELEASE].get_state_dict(progress=True, check_hash=True)
    except (OSError, RuntimeError) as error:
        raise Mismatch(
            f"model.encoder.weights = torchvision: could not download {NAME} ({error}); "
            "bring the file to this machine and set model.encoder.weights to its path"
        ) from None
