"""The contract of the image encoders: the maps that each offers, and its parts that a method may change.

Stages are numbered 0 (stem) to 4 as in the published checkpoints.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from model.encoders.variant import LAST_STAGE, USUAL, EncoderVariant
from model.episode import Batch
from model.mismatch import ModelMismatch
from model.tensors.batching import computed_together
from model.tensors.frozen import half_type, made_once
from model.tensors.mask import Mask
from model.tensors.memory_format import with_gradient_in_own_format
from model.tensors.one_thread import pointwise, takes_one_thread
from model.tensors.ops import IMAGENET_MEAN, IMAGENET_STD, normalise
from model.tensors.windows import known_spans, window_around

MEMORY_FORMAT = torch.channels_last  # of weights and maps: convolutions are faster than in the default format
STAGE = r"(?:layer|merge)([0-4])\."  # how tensor names of the encoders written here begin


@dataclass
class Features(Batch):
    """Features of B images: the outputs of the encoder's stages, and its intermediate features where asked for.

    An intermediate feature is a map before the last ReLU of a residual block, a raw convolution output of VGG, or the
    output of a Swin transformer's block.
    """

    stage: dict[int, Tensor]  # stage -> (B, C, H, W)
    intermediate: dict[int, list[Tensor]]  # stage -> maps (B, C, H, W), in the order of the blocks


class Encoder(nn.Module):
    """Base class of the encoders. One's own is a subclass that ``register_encoder`` of ``registry.py`` names.

    ``__init__(backbone, stem, last_stage, variant)`` gets the name, the stem, the deepest stage that the method reads
    and the changes that it makes. It calls ``super().__init__(last_stage, variant, channels)`` with stage -> channels
    and sets the modules ``layer0`` (the stem) to ``layer<last_stage>``. That is enough: ``run_stage`` is one of these
    modules on the output of the one before, (B, C, h, w), which it must not change. More is optional:

    - maps inside a stage: override ``steps``, and set ``intermediate_counts``; else a stage's output is the only one;
    - an output stride: stage i is dilated by ``variant.dilation[i]``, and the spec names its ``strides``;
    - ``mean`` and ``std``, ``licence`` and ``pretraining``, ``own_names`` for the layout of its weight files;
    - ``local_stages``, if each cell depends on the cells around it alone: a CPU then encodes an object's window.

    The spec (``EncoderSpec``) says what methods may rely on: the strides of the grids, where an image of s k + 1 pixels
    has k + 1 cells at stride s, the stages with maps inside, and the image sides.
    """

    channels: dict[int, int]  # stage -> channels of its output, of the stages that are returned
    intermediate_counts: dict[int, int]  # stage -> number of intermediate features
    last_stage: int  # the deepest one that exists
    local_stages: ClassVar[bool] = False  # whether a cell of a stage depends on its convolutions' reach alone
    title = ""  # in messages
    torchvision: str | None = None  # torchvision's name of its ImageNet weights
    licence: str | None = None  # of the weights, where it is known
    pretraining: str | None = None  # the data that the weights were trained on, where it is known
    constants: tuple[str, ...] = ()  # tensors of its own that belong to no stage, and that files may lack
    start: Any = None  # the ``EncoderSettings`` that it was built by
    mean: Tensor  # of the pixels 0..1 of each channel, (3, 1, 1), and their standard deviation
    std: Tensor

    def __init__(
        self, last_stage: int = LAST_STAGE, variant: EncoderVariant = USUAL, channels: Mapping[int, int] | None = None
    ) -> None:
        super().__init__()
        self.last_stage = last_stage
        self.channels = {i: n for i, n in (channels or {}).items() if i in variant.returned_stages(last_stage)}
        self.intermediate_counts = {i: 1 for i in self.channels if i in variant.intermediate}
        for name, values in (("mean", IMAGENET_MEAN), ("std", IMAGENET_STD)):
            self.register_buffer(name, torch.tensor(values).view(3, 1, 1), persistent=False)

    def stage(self, i: int) -> Any:
        """Return the module of stage ``i``."""
        return getattr(self, f"layer{i}")

    def stages(self) -> list[nn.Module]:
        """Return the modules of stages 0..last_stage, in order."""
        return [self.stage(i) for i in range(self.last_stage + 1)]

    def widths(self, stage: int) -> list[int]:
        """Return the channels of each intermediate feature of a stage."""
        return [self.channels[stage]] * self.intermediate_counts[stage]

    @property
    def follows_batch(self) -> bool:
        """Whether a batch norm is in training mode: the maps of an image then depend on those beside it."""
        if not self.training:
            return False
        return any(isinstance(module, _BatchNorm) and module.training for module in self.modules())

    def forward(self, image_b3hw: Tensor, intermediate: bool = False) -> Features:
        """Encode normalised images; ``intermediate`` asks for the intermediate features of stages 2..4 as well."""
        out = Features({}, {i: [] for i in self.channels})
        for stage, feature in self.steps(out.stage, image_b3hw, intermediate):
            out.intermediate[stage].append(feature)
        for i, x in out.stage.items():
            if x.requires_grad:
                out.stage[i] = with_gradient_in_own_format(x)
        return out

    def steps(self, out: dict[int, Tensor], x: Tensor, intermediate: bool) -> Iterator[tuple[int, Tensor]]:
        """Encode normalised images step by step, and add the outputs of the stages to ``out``.

        Yield the intermediate features with their stage, if they are asked for, each as soon as it exists. This is the
        rule for an encoder whose stages have none but their output.
        """
        for i in range(self.last_stage + 1):
            x = self.run_stage(i, x)
            if i in self.channels:
                out[i] = x
            if intermediate and i in self.intermediate_counts:
                yield i, x

    def forward_masked(self, image_b3hw: Tensor, mask: Mask, stage: int) -> Features:
        """Return the outputs of the stages up to ``stage`` + 1, the last one of the masked object alone.

        The output of ``stage`` is multiplied by the mask before the next stage. With fixed statistics a CPU runs that
        one, of ``local_stages``, on the window that decides its output on the object: the object, with the reach of the
        stage's kernels around it; it is 0 elsewhere. The returned map of ``stage`` is the unmasked one.
        """
        out, x = Features({}, {}), image_b3hw
        for i in range(stage + 1):
            x = self.run_stage(i, x)
            if i in self.channels:
                out.stage[i] = x
        size = x.shape[-2:]
        small_mask = mask.on(size)
        masked = x * small_mask
        reach = self._reach(stage + 1)
        if computed_together(x) or self.follows_batch or reach is None:
            out.stage[stage + 1] = self.run_stage(stage + 1, masked)
            return out
        [spans] = known_spans([small_mask])
        window = window_around(spans, size, reach, reach)
        high = self.run_stage(stage + 1, window.crop(masked))
        nothing = high.new_zeros(high.shape[1])
        out.stage[stage + 1] = window.place(high, nothing, size)
        return out

    def _reach(self, stage: int) -> int | None:
        """Return how many cells a stage's kernels reach beyond a cell; None: it has strides, or no such limit."""
        if not self.local_stages:
            return None
        convolutions = [module for module in self.stage(stage).modules() if isinstance(module, nn.Conv2d)]
        if any(conv.stride != (1, 1) for conv in convolutions):
            return None
        return sum(int(conv.dilation[0]) * (conv.kernel_size[0] // 2) for conv in convolutions)

    def run_stage(self, i: int, x_bchw: Tensor) -> Tensor:
        """Return the output of one stage; norms in evaluation mode are a part of the convolutions before them."""
        if not isinstance(self.stage(i), nn.Sequential):
            return self.stage(i)(x_bchw)
        norm: nn.Module | None = None
        for layer, following in pairwise([*self.stage(i), None]):
            if isinstance(layer, nn.Conv2d) and isinstance(following, nn.BatchNorm2d):
                norm, x_bchw = following, conv_norm(layer, following, x_bchw)
            elif layer is not norm:
                x_bchw = layer(x_bchw)
        return x_bchw

    def normalise(self, image: Tensor) -> Tensor:
        """Return the encoder's float32 input from RGB pixels 0..255 (..., 3, H, W), uint8 or float32."""
        return normalise(image, self.mean, self.std)

    def stage_of(self, name: str) -> int:
        """Return the stage that a tensor belongs to, by its name."""
        match = re.match(STAGE, name)
        if match is None:
            raise ModelMismatch(f"tensor {name} of {self.title} is in none of its stages layer0, layer1 ...")
        return int(match[1])

    def foreign(self, names: Iterable[str]) -> list[str]:
        """Return the names, of tensors that this encoder lacks, that belong to one of its stages."""
        of_stages = [name for name in names if re.match(STAGE, name)]
        return [name for name in of_stages if self.stage_of(name) <= self.last_stage]

    def own_names(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return a weight file's tensors under this class's names, without the classifier; unknown names stay."""
        return state


# A norm that keeps its statistics is linear: y = W x + c and the norm (y - mean) / deviation * weight + bias after it
# are the convolution by (weight / deviation) W with the bias (c - mean) weight / deviation + bias. The kernels stay the
# parameters: a pass scales them anew, and gradients flow through the scale. Frozen kernels are folded once on a GPU,
# where five small kernels a convolution cost as much as the convolution, and in half precision, where a cast costs too.


def folded(conv: nn.Conv2d, norm: Any) -> Sequence[Tensor]:
    """Return kernels and bias of the convolution that equals ``norm(conv(x))``, in the type of the pass; see ``fold``.

    The count of batches is among the sources since a norm in training writes its statistics without a new version.
    """
    batches = getattr(norm, "num_batches_tracked", None)
    statistics = [norm.running_mean, norm.running_var, batches]
    sources = [x for x in (conv.weight, conv.bias, norm.weight, norm.bias, *statistics) if x is not None]
    keep = not conv.weight.is_cpu or half_type(conv.weight.device) is not None
    return made_once(partial(fold, conv, norm), sources, key=("fold", norm.eps), keep=keep)


def fold(conv: nn.Conv2d, norm: Any) -> tuple[Tensor, Tensor]:
    """Return kernels and bias of the one convolution that equals ``norm(conv(x))`` with fixed statistics."""
    scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    bias = norm.bias if conv.bias is None else torch.addcmul(norm.bias, conv.bias, scale)
    kernels = conv.weight * scale.view(-1, 1, 1, 1)
    return kernels, torch.addcmul(bias, norm.running_mean, scale, value=-1)


def conv_norm(conv: nn.Conv2d, norm: _BatchNorm, x: Tensor) -> Tensor:
    """Return ``norm(conv(x))``; with fixed statistics as one convolution, which saves a pass over the map."""
    if norm.training:
        return norm(conv(x))
    return convolved(conv, x, *folded(conv, norm))


def convolved(conv: nn.Conv2d, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return ``conv`` of x with other kernels and bias; in one thread oneDNN computes 1x1 ones, faster than torch."""
    in_float32 = x.is_cpu and x.dtype == weight.dtype == torch.float32  # no automatic mixed precision: see ``folded``
    is_pointwise = conv.kernel_size == (1, 1) and conv.padding == (0, 0)
    if in_float32 and is_pointwise and takes_one_thread():
        return pointwise(x, weight, bias, conv.stride, conv.groups)
    return conv._conv_forward(x, weight, bias)
