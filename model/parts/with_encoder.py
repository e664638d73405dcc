"""The encoder's stages as methods name them, and the settings of every method with an encoder."""

from dataclasses import dataclass, field

from model.contract import ModelSettings
from model.encoders.settings import EncoderSettings

LOW, MID, HIGH = 2, 3, 4  # encoder stages whose features the methods read: f2, f3, f4


@dataclass
class WithEncoderSettings(ModelSettings):
    """Settings that every model with an encoder has."""

    encoder: EncoderSettings = field(default_factory=EncoderSettings)


def uneven_grid(grid: int, windows: int) -> tuple[str, str] | None:
    """Return (key, problem and remedy) if the side of a method's working grid is no multiple of a number; else None."""
    below = grid // windows * windows
    if below == grid:
        return None
    return "grid", f"= {grid} is not a multiple of {windows}; nearest: {below}, {below + windows}"
