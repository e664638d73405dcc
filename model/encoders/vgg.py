"""VGG-16 as an encoder, from torchvision: with batch norm, or without it as HSNet has it."""

from bisect import bisect
from collections.abc import Iterator

from torch import Tensor, nn

from model.encoders.encoder import MEMORY_FORMAT, Encoder
from model.encoders.registry import register_encoder
from model.encoders.spec import EncoderSpec
from model.encoders.variant import LAST_STAGE, EncoderVariant

# Where stages end in torchvision's list of layers: after each pool but the last, then after the last ReLU; without
# batch norm after each pool.
ENDS, PLAIN_ENDS = (7, 14, 24, 34, 43), (5, 10, 17, 24, 31)
STAGES = {2: (256, 3), 3: (512, 3), 4: (512, 1)}  # stage -> channels, number of intermediate features
PREFIX = "features."  # of torchvision's names


class VGGEncoder(Encoder):
    """VGG-16: stage 2 at stride 8, stages 3 and 4 at stride 16; pools round up.

    Intermediate features: the raw outputs of the three convolutions of stage 3, which are still at stride 8, count as
    those of stage 2, the convolutions of stage 4 as those of stage 3, and the output of stage 4 as that of stage 4.
    Without batch norm pools round down, stage 4 ends with a pool, and its output alone is returned.
    """

    local_stages = True

    def __init__(self, backbone: str, stem: str, last_stage: int, variant: EncoderVariant):
        from torchvision.models import vgg  # takes seconds

        super().__init__()
        self.batch_norm = batch_norm = variant.batch_norm
        layers = list((vgg.vgg16_bn if batch_norm else vgg.vgg16)(weights=None).features)
        self.ends = ENDS if batch_norm else PLAIN_ENDS
        self._change_layers(layers)
        starts = (0, *self.ends)
        for i in range(last_stage + 1):
            setattr(self, f"layer{i}", nn.Sequential(*layers[starts[i] : self.ends[i]]))
        self.last_stage = last_stage
        self.channels = {i: c for i, (c, _) in STAGES.items() if i <= last_stage}
        inside = [i for i in self.channels if i in variant.intermediate]
        self.intermediate_counts = {i: variant.count(i, STAGES[i][1]) for i in inside}
        self.to(memory_format=MEMORY_FORMAT)

    def steps(self, out: dict[int, Tensor], x: Tensor, intermediate: bool) -> Iterator[tuple[int, Tensor]]:
        """See :class:`Encoder`."""
        returned = self.channels if self.batch_norm else (LAST_STAGE,)
        wanted = self.intermediate_counts if intermediate else {}
        for i in range(self.last_stage + 1):
            stage = i - 1  # of which the convolutions of this part are the intermediate features
            given = 0
            for layer in self.stage(i):
                x = layer(x)
                if stage in wanted and isinstance(layer, nn.Conv2d):
                    given += 1
                    if given > STAGES[stage][1] - wanted[stage]:
                        yield stage, x
            if i in returned:
                out[i] = x
        if LAST_STAGE in wanted:
            yield LAST_STAGE, x

    def _change_layers(self, layers: list[nn.Module]) -> None:
        """Change torchvision's layers in place: how pools round, and which ReLUs keep their input."""
        for i, layer in enumerate(layers):
            if isinstance(layer, nn.MaxPool2d):
                layer.ceil_mode = self.batch_norm
            elif isinstance(layer, nn.ReLU) and not self.batch_norm and i >= self.ends[2]:
                layer.inplace = False  # its input is an intermediate feature

    def own_names(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Split torchvision's flat list of layers into stages; its classifier is left out."""
        if f"{PREFIX}0.weight" not in state:
            return state
        out = {}
        for name, tensor in state.items():
            if name.startswith(PREFIX):
                _, index, leaf = name.split(".")
                stage = bisect(self.ends, int(index))
                start = (0, *self.ends)[stage]
                out[f"layer{stage}.{int(index) - start}.{leaf}"] = tensor
        return out


_inside = (2, 3, 4)  # stages with maps
_plain = EncoderSpec("VGG-16 without batch norm", VGGEncoder, blocks=_inside, rounds_up=False, torchvision="vgg16")
register_encoder("vgg16", "VGG-16", grids=(4, 8, 16, 16), blocks=_inside, torchvision="vgg16_bn", without_norms=_plain)(
    VGGEncoder
)
