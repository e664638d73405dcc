"""A network of timm as an encoder: any pyramid of convolutions or windows, or any transformer on one grid of patches.

Stages of a pyramid are its maps at strides 4, 8, 16 and 32, and the intermediate features are the outputs of the
blocks that have the shape of their stage's output. A transformer's blocks are split into four groups of equal depth:
stage i is the output of group i's last block, its intermediate features are the outputs of all blocks of the group, and
all of them pass through the final norm.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.common.ops import resize
from model.encoders.encoder import (
    INTERMEDIATE_STAGES,
    LAST_STAGE,
    MEMORY_FORMAT,
    Encoder,
    EncoderVariant,
    GiveFeature,
    Intermediate,
)
from model.encoders.features import Features
from model.encoders.timm_facts import PATCHES, STAGE_STRIDES, create, facts

NET = "net."  # prefix of the network's tensors among the encoder's
CONSTANTS = ("mean", "std")  # the encoder's own tensors
# Raised by timm's translation of a layout that it does not know.
UNTRANSLATABLE = (KeyError, RuntimeError, ValueError, AttributeError, IndexError, AssertionError)
LAST_ACTIVATIONS = ("act3", "act2")  # names of the activation after the sum of a residual block, the first that exists


@dataclass
class _Call:
    """What one pass asks of the network beside the stages' maps.

    The hooks that answer it are a part of the network and keep nothing: they find the call in their own thread.
    """

    give: GiveFeature | None = None
    masked_stage: int | None = None
    mask_b1hw: Tensor | None = None
    unmasked: Tensor | None = None  # the output of the masked stage as it was


_CALL: ContextVar[_Call | None] = ContextVar("timm_call", default=None)


class TimmEncoder(Encoder):
    """A network of timm, ``net``, and the normalisation of its input, ``mean`` and ``std`` for pixels 0..1.

    Args:
        backbone: ``timm/<name>``.
        last_stage: the deepest stage to build.
        variant: ``dilation`` gives the output stride, ``intermediate`` the number of intermediate features.

    Raises:
        Mismatch: timm has no such network, or it cannot have that output stride.
    """

    names_in_files = r"net\."

    def __init__(self, backbone: str, last_stage: int = LAST_STAGE, variant: EncoderVariant | None = None):
        from model.encoders.timm_blocks import fold_frozen_norms  # imports timm

        super().__init__()
        self.variant = variant = variant or EncoderVariant()
        self.backbone, self.facts, self.last_stage = backbone, facts(backbone), last_stage
        self.licence = self.facts.licence
        self.pretraining = self.facts.pretraining
        stride = variant.stride(last_stage)
        pyramid = not self.facts.transformer
        dilated = pyramid and stride < STAGE_STRIDES[last_stage]
        self.net = create(backbone, stride if dilated else None)
        cast(Any, self.net).prune_intermediate_layers([self.facts.outputs[last_stage]], prune_norm=pyramid)
        fold_frozen_norms(self.net)
        self.patch = stride if pyramid else self.facts.patch
        self.register_buffer("mean", torch.tensor(self.facts.mean).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(self.facts.std).view(3, 1, 1))
        self.returned_stages = range(min((INTERMEDIATE_STAGES[0], *variant.intermediate)), last_stage + 1)
        self.channels = {i: self.facts.channels[i] for i in self.returned_stages}
        self.intermediate_counts = {i: len(self._blocks(i)) for i in self.returned_stages if i in variant.intermediate}
        self._watch()
        self.to(memory_format=MEMORY_FORMAT)

    def forward(self, image_b3hw: Tensor, intermediate: Intermediate = False) -> Features:
        """See :class:`Encoder`.

        A side of p k + 1 pixels gives k + 1 cells, the corner cells centred on the corner pixels, as in a network of
        centred convolutions: on a grid of patches, half a patch is added around the image by repeating its border.
        """
        out = Features({}, {i: [] for i in self.returned_stages})
        give = intermediate if callable(intermediate) else out.add_intermediate
        self._fill(out, image_b3hw, _Call(give if intermediate else None))
        return out

    def forward_masked(self, image_b3hw: Tensor, mask_b1hw: Tensor, stage: int) -> Features:
        """See :class:`Encoder`."""
        out, call = Features({}, {}), _Call(masked_stage=stage, mask_b1hw=self._padded(mask_b1hw))
        self._fill(out, image_b3hw, call)
        assert call.unmasked is not None
        if self.facts.transformer:
            out.stage[stage] = self._map_of_tokens(call.unmasked, out.stage[stage].shape[-2:])
        else:
            out.stage[stage] = _channels_first(call.unmasked, self.channels[stage])
        return out

    def _watch(self) -> None:
        """Let blocks and stages show their outputs to the call that runs them (``_Call``)."""
        if not self.facts.transformer:
            for i in self.intermediate_counts:
                for name in filter(None, self._blocks(i)):
                    _watch_block(self.net.get_submodule(name), i, self.facts.blocks[i][name])
        for i in self.returned_stages:
            end, prefix = self.net.get_submodule(self.facts.stages[i]), getattr(self.net, "num_prefix_tokens", 0)
            end.register_forward_hook(partial(_mask_stage, i, self.channels[i], self.patch, prefix))

    def _fill(self, out: Features, image_b3hw: Tensor, call: _Call) -> None:
        """Add the stages' outputs to ``out``, and answer the call."""
        token = _CALL.set(call)
        try:
            fill = self._fill_from_transformer if self.facts.transformer else self._fill_from_pyramid
            fill(self._padded(image_b3hw), out, call.give)
        finally:
            _CALL.reset(token)

    def _fill_from_pyramid(self, x: Tensor, out: Features, give: GiveFeature | None) -> None:
        maps = self._maps(x, [self.facts.outputs[i] for i in self.returned_stages], norm=False)
        for i, feature in zip(self.returned_stages, maps, strict=True):
            out.stage[i] = feature
            if give is not None and self._blocks(i) == [None]:
                give(i, feature)

    def _fill_from_transformer(self, x: Tensor, out: Features, give: GiveFeature | None) -> None:
        ends = {self.facts.outputs[i]: i for i in self.returned_stages}
        inside = {b: i for i in self.intermediate_counts for b in self._blocks(i)} if give is not None else {}
        wanted = sorted({*ends, *inside})
        for block, feature in zip(wanted, self._maps(x, wanted, norm=True), strict=True):
            if give is not None and block in inside:
                give(inside[block], feature)
            if block in ends:
                out.stage[ends[block]] = feature

    def _maps(self, x: Tensor, indices: list[int], norm: bool) -> list[Tensor]:
        """Return timm's maps (B, C, h, w), without class and register tokens."""
        return cast(Any, self.net).forward_intermediates(
            x, indices=indices, norm=norm, stop_early=True, intermediates_only=True
        )

    def _blocks(self, stage: int) -> list[Any]:
        """Return the blocks of a stage whose outputs are intermediate features: names, or numbers in a transformer.

        [None] stands for the stage's output, in a network without blocks.
        """
        wanted = self.variant.intermediate.get(stage, 0)
        if self.facts.transformer:
            end = self.facts.outputs[stage] + 1
            every: list[Any] = list(range(self.facts.outputs[stage - 1] + 1 if stage > 1 else 0, end))
        else:
            widths, own = self.facts.blocks[stage], self.facts.channels[stage]
            every = [name for name, width in widths.items() if self.variant.any_width or width == own] or [None]
        return every if wanted is None else every[len(every) - min(wanted, len(every)) :]

    def widths(self, stage: int) -> list[int]:
        """See :class:`Encoder`."""
        known = self.facts.blocks.get(stage, {})
        return [known.get(name, self.channels[stage]) for name in self._blocks(stage)]

    def _map_of_tokens(self, tokens: Tensor, size: Sequence[int]) -> Tensor:
        """Return the map (B, C, h, w) of a transformer's tokens after its norm."""
        net = cast(Any, self.net)
        patches = net.norm(tokens)[:, net.num_prefix_tokens :]
        return patches.transpose(1, 2).unflatten(2, tuple(size))

    def _padded(self, image: Tensor) -> Tensor:
        if self.facts.grid != PATCHES or any(side % self.patch != 1 for side in image.shape[-2:]):
            return image
        before = (self.patch - 1) // 2
        after = self.patch - 1 - before
        return F.pad(image, (before, after, before, after), mode="replicate")

    # --- parts and weights -------------------------------------------------------------------------------------------

    def stages(self) -> list[nn.Module]:
        """Return the parts of stages 0..last_stage; they hold the network's own parameters and layers."""
        parts = [nn.Module() for _ in range(self.last_stage + 1)]
        for name, parameter in self.net.named_parameters():
            owner = name.rpartition(".")[0]
            part, key = parts[self.stage_of(NET + name)], owner.replace(".", "/")
            if owner and key not in dict(part.named_children()):
                part.add_module(key, self.net.get_submodule(owner))
            elif not owner:
                part.register_parameter(name, parameter)
        return parts

    def stage_of(self, name: str) -> int:
        """Return the stage that a tensor belongs to: the first one that ends with or after it, 0 before all stages."""
        own, position = name.removeprefix(NET), self._positions
        block = re.match(r"blocks\.(\d+)\.", own) if self.facts.transformer else None
        if block is not None:
            return next(i for i in range(1, self.last_stage + 1) if int(block[1]) <= self.facts.outputs[i])
        for i in range(1, self.last_stage + 1):
            if own.startswith(f"{self.facts.stages[i]}."):
                return i
        begun = [i for i in range(1, self.last_stage + 1) if position[self.facts.stages[i]] < position.get(own, -1)]
        return min(begun[-1] + 1, self.last_stage) if begun else 0

    @cached_property
    def _positions(self) -> dict[str, int]:
        """Return tensor -> its position among the network's, and stage module -> that of its first tensor."""
        names = list(self.net.state_dict())
        out = {name: i for i, name in enumerate(names)}
        for i in range(1, self.last_stage + 1):
            module = self.facts.stages[i]
            out[module] = next((n for n, name in enumerate(names) if name.startswith(f"{module}.")), len(names))
        return out

    def own_names(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return a file of timm, or of a layout that timm translates, under this encoder's names.

        Tensors of layers that the encoder does not build, such as the classifier, are left out.
        """
        own = self.state_dict()
        if any(name in own for name in state if name not in CONSTANTS):
            return state
        constants = {name: state[name] for name in CONSTANTS if name in state}
        state = {name: tensor for name, tensor in state.items() if name not in CONSTANTS}
        translate = getattr(sys.modules[type(self.net).__module__], "checkpoint_filter_fn", None)
        if translate is not None:
            with suppress(*UNTRANSLATABLE):
                state = translate(dict(state), self.net)
        whole = create(self.backbone, device="meta").state_dict()
        out = {NET + name: tensor for name, tensor in state.items()}
        unused = {NET + name for name in whole} - own.keys()
        classifier = _classifiers(self.net)
        return constants | {k: v for k, v in out.items() if k not in unused and not k.startswith(classifier)}

    def foreign(self, names: Iterable[str]) -> list[str]:
        """Return the tensors of a file that belong to a network of timm, but not to this encoder."""
        own = self.state_dict().keys()
        return [name for name in names if name.startswith(NET) and name not in own]

    def describe(self) -> str:
        """Return the network in words, for messages."""
        return self.backbone

    @staticmethod
    def describe_weights(state: dict[str, Tensor]) -> str | None:
        """Recognise an encoder of this class by the prefix of its network's tensors."""
        return "a network of timm" if any(name.startswith(NET) for name in state) else None


def _last_activation(block: nn.Module) -> nn.Module | None:
    """Return the activation after the sum of a residual block of timm's ResNets; None for other blocks."""
    from timm.models import resnet

    if not isinstance(block, (resnet.BasicBlock, resnet.Bottleneck)):
        return None
    return next(getattr(block, name) for name in LAST_ACTIVATIONS if hasattr(block, name))


def _channels_first(x: Tensor, channels: int) -> Tensor:
    """Return a map as (B, C, h, w); networks of windows have (B, h, w, C) inside."""
    return x if x.shape[1] == channels else x.permute(0, 3, 1, 2)


def _watch_block(block: nn.Module, stage: int, channels: int) -> None:
    """Have each output of a block, before its last activation, given to the call that runs it."""
    activation = _last_activation(block)
    if activation is not None:
        cast(Any, activation).inplace = False  # the map before it is read
        activation.register_forward_pre_hook(partial(_give_input, stage))
    else:
        block.register_forward_hook(partial(_give_output, stage, channels))


def _give_input(stage: int, module: nn.Module, inputs: Any) -> None:
    call = _CALL.get()
    if call is not None and call.give is not None:
        call.give(stage, inputs[0])


def _give_output(stage: int, channels: int, module: nn.Module, inputs: Any, output: Tensor) -> None:
    call = _CALL.get()
    if call is not None and call.give is not None:
        call.give(stage, _channels_first(output, channels))


def _mask_stage(stage: int, channels: int, patch: int, prefix: int, module: Any, inputs: Any, output: Any) -> Any:
    """Return a stage's output times the mask of the call that asks for it; None: unchanged."""
    call = _CALL.get()
    if call is None or call.mask_b1hw is None or call.masked_stage != stage:
        return None
    call.unmasked, mask = output, call.mask_b1hw
    if output.ndim == 3:  # tokens, after class and register tokens
        inside = resize(mask, [n // patch for n in mask.shape[-2:]]).flatten(2).transpose(1, 2)
        return output * F.pad(inside, (0, 0, prefix, 0), value=1.0)
    if output.shape[1] == channels:
        return output * resize(mask, output.shape[-2:])
    return output * resize(mask, output.shape[1:3]).permute(0, 2, 3, 1)


def _classifiers(net: nn.Module) -> tuple[str, ...]:
    """Return how the names of a classifier's tensors begin; the network was built without it."""
    named = cast(Any, net).pretrained_cfg.get("classifier") or ()
    named = (named,) if isinstance(named, str) else tuple(named)
    return tuple(f"{NET}{name}." for name in (*named, "head", "fc", "classifier"))
