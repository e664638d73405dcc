"""Groups of parameters that learn alike."""

from dataclasses import dataclass

from torch import nn


@dataclass(frozen=True)
class ParamGroup:
    """Parameters with the same learning-rate factor and optimiser (a key of the stage's ``optimizers``)."""

    name: str
    params: list[nn.Parameter]
    factor: float = 1.0
    optimizer: str = "main"


def learnable(*parts: nn.Module) -> list[nn.Parameter]:
    """Return the parameters of parts that learn."""
    return [p for part in parts for p in part.parameters() if p.requires_grad]
