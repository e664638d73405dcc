"""Facts about a network of timm that hold before it has weights: its stages, blocks, grid, constants and licence."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from model.encoders.encoder import LAST_STAGE
from model.encoders.pretraining import pretraining_of_tag
from model.mismatch import Mismatch

PREFIX = "timm/"
STAGE_STRIDES = {1: 4, 2: 8, 3: 16, 4: 32}  # of a network with a pyramid, at its own output stride
STRIDES = (8, 16, 32)  # output strides that may be asked for
# Arguments that let a network take images of other sides than its own, in the order in which they are tried.
SIZE_ARGUMENTS: tuple[dict[str, Any], ...] = ({"strict_img_size": False}, {"dynamic_img_size": True}, {})
PROBE_CELLS = 8  # side of stage 4's grid in the images that the facts are read from
CENTRED, PATCHES = "centred", "patches"  # a cell is centred on pixel s i, or covers pixels s i .. s i + s - 1
SUGGESTIONS = 3
DOWNSAMPLE = "downsample"  # timm's name of the part that halves the grid at the start of a stage


@dataclass(frozen=True)
class TimmFacts:
    """A network of timm as an encoder of stages 1..4.

    Attributes:
        transformer: whether all blocks work on one grid of patches, so that stages are groups of blocks.
        patch: stride of a transformer's grid; 32 for a pyramid.
        grid: ``CENTRED`` or ``PATCHES``.
        outputs: stage -> position of its output in ``forward_intermediates``.
        channels: stage -> channels of its output.
        stages: stage -> name of the module that ends with its output.
        blocks: stage -> module -> channels of its output, for all blocks on the stage's grid, also those of another
            width than the stage's output; empty for a transformer.
        mean, std: constants of the input's normalisation, for pixels 0..1.
        licence: of the weights, as timm states it.
        pretraining: the data that the weights were trained on; None: their name does not say.
    """

    name: str
    transformer: bool
    patch: int
    grid: str
    outputs: dict[int, int]
    channels: dict[int, int]
    stages: dict[int, str]
    blocks: dict[int, dict[str, int]]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    licence: str
    pretraining: str | None


def bare_name(backbone: str) -> str:
    """Return timm's name of ``timm/<name>``."""
    return backbone.removeprefix(PREFIX)


@cache
def unknown(backbone: str) -> str | None:
    """Return why ``timm/<name>`` is no encoder, with the nearest names; None if it is one."""
    import timm

    name = bare_name(backbone)
    architecture, _, tag = name.partition(".")
    if not timm.is_model(architecture):
        known = timm.list_models(pretrained=True) if tag else timm.list_models()
        near = get_close_matches(name, known, SUGGESTIONS) or get_close_matches(architecture, known, SUGGESTIONS)
        return f"timm knows no network of that name{_or(near)}"
    tags = [full for full in timm.list_pretrained(f"{architecture}.*") if full != architecture]
    if tag and name not in tags:
        return f"timm knows no weights of that name{_or(tags[:SUGGESTIONS])}"
    try:
        facts(backbone)
    except Mismatch as error:
        return str(error)
    return None


def _or(names: list[str]) -> str:
    return f"; did you mean {' or '.join(PREFIX + name for name in names)}?" if names else ""


def create(backbone: str, output_stride: int | None = None, device: str = "cpu") -> nn.Module:
    """Return a network of timm with random weights and without its classifier.

    Raises:
        Mismatch: it cannot have that output stride.
    """
    import timm

    stride: dict[str, Any] = {} if output_stride is None else {"output_stride": output_stride}
    for arguments in SIZE_ARGUMENTS:
        try:
            with torch.device(device):
                return timm.create_model(bare_name(backbone), num_classes=0, **arguments, **stride).eval()
        except TypeError:  # this network has no such argument
            continue
        except (AssertionError, ValueError, NotImplementedError, RuntimeError) as error:
            raise Mismatch(f"timm cannot build it with output stride {output_stride} ({error})") from None
    raise Mismatch(f"it has no output stride of {output_stride}: its grid is fixed")


@cache
def can_have(backbone: str, output_stride: int) -> bool:
    """Return whether a network of timm can have an output stride."""
    known = facts(backbone)
    if known.transformer or output_stride == STAGE_STRIDES[LAST_STAGE]:
        return True
    try:
        create(backbone, output_stride, "meta")
    except Mismatch:
        return False
    return True


@cache
def facts(backbone: str) -> TimmFacts:
    """Return the facts about ``timm/<name>``.

    Raises:
        Mismatch: it does not give the maps that an encoder must give.
    """
    net: Any = create(backbone, device="meta")
    info = getattr(net, "feature_info", None)
    if info is None or not hasattr(net, "forward_intermediates"):
        raise Mismatch("it returns no intermediate maps (timm's forward_intermediates)")
    each = info.get_dicts() if hasattr(info, "get_dicts") else list(info)
    strides = [int(one["reduction"]) for one in each]
    transformer = len(set(strides)) == 1 and len(each) > LAST_STAGE
    if transformer:
        outputs = {i: len(each) * i // LAST_STAGE - 1 for i in STAGE_STRIDES}
    else:
        if not set(STAGE_STRIDES.values()) <= set(strides):
            raise Mismatch(f"its maps have strides {', '.join(map(str, strides))}; an encoder needs 4, 8, 16 and 32")
        outputs = {i: len(strides) - 1 - strides[::-1].index(stride) for i, stride in STAGE_STRIDES.items()}
    stages = {i: str(each[output]["module"]) for i, output in outputs.items()}
    grid, blocks = (PATCHES, {}) if transformer else _probed(net, outputs, stages)
    config = net.pretrained_cfg
    return TimmFacts(
        bare_name(backbone),
        transformer,
        strides[0] if transformer else STAGE_STRIDES[LAST_STAGE],
        grid,
        outputs,
        {i: int(each[output]["num_chs"]) for i, output in outputs.items()},
        stages,
        blocks,
        tuple(config["mean"]),
        tuple(config["std"]),
        str(config.get("license") or "not stated"),
        pretraining_of_tag(bare_name(backbone).partition(".")[0], str(config.get("tag") or "")),
    )


def _probed(net: Any, outputs: dict[int, int], stages: dict[int, str]) -> tuple[str, dict[int, dict[str, int]]]:
    """Return the kind of grid of a pyramid, and the blocks of each stage and their widths, by a pass without numbers.

    A block is a module with parts of its own, in an ``nn.Sequential``, ``nn.ModuleList`` or one of ``stages``; it
    holds no other block, and its output has the shape of the stage's, or is on its grid and of a class of such a block.
    """
    stride = STAGE_STRIDES[LAST_STAGE]
    shapes: dict[str, tuple[int, ...]] = {}

    def keep(name: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            if isinstance(output, Tensor) and output.ndim == 4:
                shapes[name] = tuple(output.shape[1:])

        return hook

    containers = (nn.Sequential, nn.ModuleList)
    candidates = [
        f"{outer}.{inner}"
        for outer, parts in net.named_modules()
        if isinstance(parts, containers) or outer in stages.values()
        for inner, part in parts.named_children()
        if not isinstance(part, containers) and any(part.children()) and inner != DOWNSAMPLE
    ]
    handles = [net.get_submodule(name).register_forward_hook(keep(name)) for name in candidates]
    image = torch.empty(1, 3, *[PROBE_CELLS * stride] * 2, device="meta")
    maps = net.forward_intermediates(image, indices=[*outputs.values()], intermediates_only=True)
    for handle in handles:
        handle.remove()
    blocks = {}
    for i, one in zip(outputs, maps):
        channels, *grid = one.shape[1:]
        widths = {n: w for n in candidates if (w := _width(shapes.get(n), grid)) is not None}
        kinds = {type(net.get_submodule(name)) for name in _innermost(n for n, w in widths.items() if w == channels)}
        alike = _innermost(n for n in widths if type(net.get_submodule(n)) in kinds)
        blocks[i] = {name: widths[name] for name in alike}
    odd = torch.empty(1, 3, *[PROBE_CELLS * stride + 1] * 2, device="meta")
    try:
        last = net.forward_intermediates(odd, indices=[outputs[LAST_STAGE]], intermediates_only=True)[0]
        return (CENTRED if last.shape[-1] > PROBE_CELLS else PATCHES), blocks
    except (AssertionError, RuntimeError):  # it takes multiples of its patches alone
        return PATCHES, blocks


def _width(shape: tuple[int, ...] | None, grid: Sequence[int]) -> int | None:
    """Return the channels of a map of this shape, which are first or last; None if it is on another grid."""
    if shape is None or tuple(grid) not in (shape[1:], shape[:2]):
        return None
    return shape[0] if shape[1:] == tuple(grid) else shape[2]


def _innermost(names: Iterable[str]) -> list[str]:
    """Return the modules that hold no other one of them."""
    every = list(names)
    return [name for name in every if not any(other.startswith(f"{name}.") for other in every)]
