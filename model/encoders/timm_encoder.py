"""A network of timm as an encoder: any pyramid of convolutions or windows, or any transformer on one grid of patches.

Stages of a pyramid are its maps at strides 4, 8, 16 and 32, and the intermediate features are the outputs of the
blocks that have the shape of their stage's output. A transformer's blocks are split into four groups of equal depth:
stage i is the output of group i's last block, its intermediate features are the outputs of all blocks of the group, and
all of them pass through the final norm.
"""

import sys
from collections.abc import Iterator
from contextlib import suppress
from functools import cache, cached_property, partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.encoders.encoder import MEMORY_FORMAT, Features
from model.encoders.spec import EncoderSpec, timm_title
from model.encoders.timm_base import NET, TimmEncoderBase
from model.encoders.timm_facts import can_have, create, facts, pretraining_of_tag
from model.encoders.variant import LAST_STAGE, STAGE_STRIDES, STRIDES, EncoderVariant, bare_name
from model.tensors.mask import Mask
from model.tensors.ops import resize


class TimmEncoder(TimmEncoderBase):
    """A network of timm, ``net``, and how its input is normalised; ModelMismatch: no such network or stride."""

    def __init__(self, backbone: str, stem: str, last_stage: int, variant: EncoderVariant):
        from model.encoders.timm_blocks import fold_frozen_norms  # imports timm

        super().__init__()
        self.variant = variant
        self.backbone = backbone
        self.facts = facts(backbone)
        self.last_stage = last_stage
        pyramid = not self.facts.transformer
        dilation = variant.dilation.get(last_stage, 1)
        stride = STAGE_STRIDES[last_stage] // dilation
        self.net = create(backbone, stride if pyramid and dilation > 1 else None)
        self.net.prune_intermediate_layers([self.facts.outputs[last_stage]], prune_norm=pyramid)
        fold_frozen_norms(self.net)
        config = self.net.pretrained_cfg
        self.licence = str(config.get("license") or "not stated")
        architecture = bare_name(backbone).partition(".")[0]
        self.pretraining = pretraining_of_tag(architecture, str(config.get("tag") or ""))
        self.patch = stride if pyramid else self.facts.patch
        for name in self.constants:
            self.register_buffer(name, torch.tensor(tuple(config[name])).view(3, 1, 1))
        self.channels = {i: self.facts.channels[i] for i in variant.returned_stages(last_stage)}
        self.every_block = self.facts.blocks
        self.intermediate_counts = {i: len(self.blocks_of(i)) for i in self.channels if i in variant.intermediate}
        # What the current pass asks of the hooks: a list for the blocks' maps, and (stage, mask) to mask its output.
        self._given: list[tuple[int, Tensor]] | None = None
        self._mask: tuple[int, Tensor] | None = None
        self._unmasked: Tensor | None = None
        self._hang_hooks()
        self.to(memory_format=MEMORY_FORMAT)

    def steps(self, out: dict[int, Tensor], x: Tensor, intermediate: bool) -> Iterator[tuple[int, Tensor]]:
        """See :class:`Encoder`.

        A side of p k + 1 pixels gives k + 1 cells, the corner cells centred on the corner pixels, as in a network of
        centred convolutions: on a grid of patches, half a patch is added around the image by repeating its border.
        Intermediate features come after the pass.
        """
        ends = {self.facts.outputs[i]: i for i in self.channels}  # position among timm's outputs -> stage
        inside = self._intermediate_outputs() if intermediate else {}
        wanted = sorted({*ends, *inside})
        given: list[tuple[int, Tensor]] = []
        self._given = given if intermediate else None  # for the hooks, which add the blocks with names
        try:
            maps = self.net.forward_intermediates(
                self._padded(x), indices=wanted, norm=self.facts.transformer, stop_early=True, intermediates_only=True
            )  # (B, C, h, w), without class and register tokens
        finally:
            self._given = None
        for output, feature in zip(wanted, maps, strict=True):
            if output in inside:
                given.append((inside[output], feature))
            if output in ends:
                out[ends[output]] = feature
        given.reverse()
        while given:
            yield given.pop()

    def forward_masked(self, image_b3hw: Tensor, mask: Mask, stage: int) -> Features:
        """See :class:`Encoder`."""
        self._mask = stage, self._padded(mask.foreground)
        try:
            out = self(image_b3hw)
            assert self._unmasked is not None
            unmasked = self._unmasked
        finally:
            self._mask = self._unmasked = None
        if self.facts.transformer:
            patches = self.net.norm(unmasked)[:, self.net.num_prefix_tokens :]
            grid = out.stage[stage].shape[-2:]
            out.stage[stage] = patches.transpose(1, 2).unflatten(2, grid)
        else:
            out.stage[stage] = _channels_first(unmasked, self.channels[stage])
        return out

    def _intermediate_outputs(self) -> dict[int, int]:
        """Return position among timm's outputs -> stage of the blocks without names that are intermediate features."""
        positions: dict[int, int] = {}
        for i in self.intermediate_counts:
            positions |= {block: i for block in self.blocks_of(i) if isinstance(block, int)}
        return positions

    def _hang_hooks(self) -> None:
        from timm.models import resnet

        for i in self.intermediate_counts:
            names = [block for block in self.blocks_of(i) if isinstance(block, str)]
            for name in names:
                block = self.net.get_submodule(name)
                give = partial(self._give_map, i, self.facts.blocks[i][name])
                if isinstance(block, (resnet.BasicBlock, resnet.Bottleneck)):  # the map before its last activation
                    last: Any = block.act3 if isinstance(block, resnet.Bottleneck) else block.act2
                    last.inplace = False
                    last.register_forward_pre_hook(give)
                else:
                    block.register_forward_hook(give)
        for i in self.channels:
            self.net.get_submodule(self.facts.stages[i]).register_forward_hook(partial(self._mask_stage, i))

    def _give_map(self, stage: int, channels: int, module: nn.Module, inputs: Any, output: Any = None) -> None:
        if self._given is not None:
            x = inputs[0] if output is None else output
            self._given.append((stage, _channels_first(x, channels)))

    def _mask_stage(self, stage: int, module: nn.Module, inputs: Any, output: Tensor) -> Tensor | None:
        """Return a stage's output times the mask of the pass that asks for it; None: unchanged."""
        if self._mask is None or self._mask[0] != stage:
            return None
        mask = self._mask[1]
        self._unmasked = output
        if output.ndim == 3:  # tokens, after class and register tokens
            grid = [n // self.patch for n in mask.shape[-2:]]
            inside = resize(mask, grid).flatten(2).transpose(1, 2)
            return output * F.pad(inside, (0, 0, self.net.num_prefix_tokens, 0), value=1.0)
        if output.shape[1] == self.channels[stage]:
            return output * resize(mask, output.shape[-2:])
        inside = resize(mask, output.shape[1:3])
        return output * inside.permute(0, 2, 3, 1)

    def _padded(self, image: Tensor) -> Tensor:
        fits = all(side % self.patch == 1 for side in image.shape[-2:])
        if self.facts.centred or not fits:
            return image
        margins = (self.patch - 1) // 2, self.patch // 2
        return F.pad(image, margins * 2, mode="replicate")

    def stages(self) -> list[nn.Module]:
        """Return the parts of stages 0..last_stage; they hold the network's own parameters and layers."""
        parts = [nn.Module() for _ in range(self.last_stage + 1)]
        for name, parameter in self.net.named_parameters():
            part = parts[self.stage_of(NET + name)]
            owner = name.rpartition(".")[0]
            if owner:
                part.add_module(owner.replace(".", "/"), self.net.get_submodule(owner))
            else:
                part.register_parameter(name, parameter)
        return parts

    def stage_of(self, name: str) -> int:
        """Return the stage that a tensor belongs to: the first one that ends with or after it, 0 before all stages."""
        return self._stage_of[name]

    @cached_property
    def _stage_of(self) -> dict[str, int]:
        names = list(self.net.state_dict())
        first = "blocks." if self.facts.transformer else f"{self.facts.stages[1]}."
        begin = next(n for n, name in enumerate(names) if name.startswith(first))
        last: dict[int, int] = {}  # stage -> number of its last tensor
        for stage in range(1, self.last_stage + 1):
            prefix = f"{self.facts.stages[stage]}."
            last[stage] = max(n for n, name in enumerate(names) if name.startswith(prefix))
        stages = {}
        for n, name in enumerate(names):
            passed = sum(end < n for end in last.values())
            stages[NET + name] = min(passed + 1, self.last_stage) if n >= begin else 0
        return stages

    def of_timm(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """See :class:`TimmEncoderBase`; also of a file that timm translates."""
        translate = getattr(sys.modules[type(self.net).__module__], "checkpoint_filter_fn", None)
        if translate is not None:
            with suppress(Exception):  # a layout that it does not know
                state = translate(dict(state), self.net)
        whole_network = create(self.backbone, device="meta").state_dict()
        unused = whole_network.keys() - self.net.state_dict().keys()
        classifiers = self._classifiers()
        return {name: x for name, x in state.items() if name not in unused and not name.startswith(classifiers)}

    def _classifiers(self) -> tuple[str, ...]:
        """Return the prefixes of a classifier's tensors in timm's files."""
        stated = self.net.pretrained_cfg.get("classifier") or ()
        parts = [stated] if isinstance(stated, str) else [*stated]
        return tuple(f"{part}." for part in (*parts, "head", "fc", "classifier"))


def _channels_first(x: Tensor, channels: int) -> Tensor:
    """Return a map as (B, C, h, w); networks of windows have (B, h, w, C) inside."""
    return x if x.shape[1] == channels else x.permute(0, 3, 1, 2)


@cache
def offers(backbone: str) -> EncoderSpec:
    """Return what a network of timm offers."""
    title = timm_title(backbone)
    known = facts(backbone)
    if known.transformer:
        return EncoderSpec(title, TimmEncoder, grids=(known.patch,) * LAST_STAGE, any_size=False)
    strides = tuple(stride for stride in STRIDES if can_have(backbone, stride))
    return EncoderSpec(title, TimmEncoder, strides=strides, any_size=known.centred, sides_by_stride=True)
