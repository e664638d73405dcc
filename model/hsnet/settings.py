"""HSNet's settings, and the image sides that VGG's levels take."""

from dataclasses import dataclass

from model.parts.with_encoder import HIGH, LOW, MID, WithEncoderSettings

STRIDES = {HIGH: (2, 2, 2), MID: (4, 2, 2), LOW: (4, 4, 2)}  # level -> its kernels' strides over the support
VGG = "vgg16"
VGG_STRIDES = {LOW: 8, MID: 16, HIGH: 32}  # of its levels, whose grids need not fit together: pools round down


@dataclass
class HSNetSettings(WithEncoderSettings):
    """HSNet's own settings."""

    def problem(self, size: int) -> tuple[str, str] | None:
        """Return (key, problem and remedy) if VGG's levels squeeze to different grids; a ResNet's never do."""
        if self.encoder.backbone != VGG or _vgg_takes(size):
            return None
        sizes = filter(_vgg_takes, range(2 * size + 200))
        nearest = min(sizes, key=lambda side: abs(side - size))
        return "encoder", f"= {VGG} squeezes its levels to different grids at data.size {size}; nearest size: {nearest}"


def _vgg_takes(size: int) -> bool:
    """Return whether the supports of all of VGG's levels are squeezed to the same side, at least 1."""
    sides = set()
    for level, stride in VGG_STRIDES.items():
        side = size // stride
        for step in STRIDES[level]:
            side = -(-side // step)
        sides.add(side)
    return len(sides) == 1 and 0 not in sides
