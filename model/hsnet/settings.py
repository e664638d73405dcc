"""HSNet's settings, and the image sides at which its levels fit together."""

from dataclasses import dataclass

from model.contract import WithEncoderSettings
from model.encoders.variant import EncoderVariant
from model.method import HIGH, LOW, MID

STRIDES = {HIGH: (2, 2, 2), MID: (4, 2, 2), LOW: (4, 4, 2)}  # level -> its kernels' strides over the support
VARIANT = EncoderVariant(dilation={}, batch_norm=False)  # torchvision's networks


@dataclass
class HSNetSettings(WithEncoderSettings):
    """HSNet's own settings."""

    def problem(self, size: int) -> tuple[str, str] | None:
        """Return (key, problem and remedy) if levels squeeze to different grids: VGG's pools round down."""
        if self._fits(size):
            return None
        nearest = min(filter(self._fits, range(2 * size + 200)), key=lambda side: abs(side - size))
        name = self.encoder.backbone
        return (
            "encoder",
            f"= {name} squeezes its levels to different grids at data.size {size}; nearest size: {nearest}",
        )

    def _fits(self, size: int) -> bool:
        """Return whether the supports of all levels are squeezed to the same side, at least 1."""
        sides = set()
        for level, strides in STRIDES.items():
            side = self.encoder.grid(size, level, VARIANT)
            for step in strides:
                side = -(-side // step)
            sides.add(side)
        return len(sides) == 1 and 0 not in sides
