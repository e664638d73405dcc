"""Sym-Net's settings."""

from dataclasses import dataclass, field
from typing import Literal

from model.parts.base_stage import WithBaseSettings
from model.parts.layers import default_scales


@dataclass
class SymNetSettings(WithBaseSettings):
    """Sym-Net's own settings."""

    # The head of the hyper-correlation. pooled: the published one, a mean over the support's object; conv4d: 4D
    # convolutions that keep the support's positions, trained in the meta stage (correlation4d.py)
    correlation: Literal["pooled", "conv4d"] = "pooled"
    # Grid sizes of the decoder; default ceil(h / 2^i) for i = 0..3
    scales: list[int] | None = field(default=None, metadata={"low": 1, "length": (4, 4)})
    aux_weight: float = field(default=1.0, metadata={"low": 0})  # of every loss but the main one

    def problem(self, size: int) -> tuple[str, str] | None:
        """Return (key, problem and remedy in words) if the decoder's scales do not fit the image side."""
        grid = self.encoder.grid(size)
        if self.scales is not None and self.scales[0] != grid:
            hint = f"null gives {default_scales(grid)}"
            return "scales", f"= {self.scales} must start at {grid}, the grid of data.size {size}; {hint}"
        return None
