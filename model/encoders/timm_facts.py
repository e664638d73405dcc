"""Facts about a network of timm that hold before it has weights: its stages, blocks, grid and output strides.

And the data that its weights were trained on, which decides what results may be compared with.
"""

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor, nn

from model.encoders.variant import IMAGENET, LAST_STAGE, PREFIX, STAGE_STRIDES, bare_name
from model.mismatch import ModelMismatch

# Arguments that let a network take images of other sides than its own, in the order in which they are tried.
SIZE_ARGUMENTS: tuple[dict[str, Any], ...] = ({"strict_img_size": False}, {"dynamic_img_size": True}, {})
PROBE_CELLS = 8  # side of the coarsest grid in the images that the facts are read from
CONTAINERS = (nn.Sequential, nn.ModuleList)
# Parts of timm's tags of weights -> the data in words, in the order in which they are named.
DATA = {
    "lvd1689m": "LVD-1689M",
    "lvd142m": "LVD-142M",
    "sat493m": "SAT-493M",
    "sa1b": "SA-1B (SAM)",
    "ig1b": "Instagram-1B",
    "seer": "Instagram-1B",
    "swag": "Instagram-3.6B",
    "jft": "JFT-300M",
    "m38m": "Merged-38M",
    "yfcc100m": "YFCC-100M",
    "in22k": "ImageNet-22k",
    "in21k": "ImageNet-21k",
    "in12k": "ImageNet-12k",
    "in1k": IMAGENET,
}
IMAGE_TEXT_PARTS = ("openai", "laion", "datacomp", "dfn", "merged2b", "metaclip", "webli", "clip", "siglip")
SELF_SUPERVISED_PARTS = ("lvd", "sat493m", "dino", "mae", "mim", "ijepa", "fcmae", "seer")
ON_IMAGENET = ("dino", "mae", "fcmae")  # weights of these names have no other part where they saw ImageNet-1k alone


@dataclass(frozen=True)
class TimmFacts:
    """A network of timm as an encoder of stages 1..4."""

    transformer: bool  # whether all blocks work on one grid of patches, so that stages are groups of blocks
    patch: int  # stride of a transformer's grid; 32 for a pyramid
    centred: bool  # whether cell i is centred on pixel s i, or covers the pixels from s i on, as a patch
    outputs: dict[int, int]  # stage -> position of its output in ``forward_intermediates``
    channels: dict[int, int]  # stage -> channels of its output
    stages: dict[int, str]  # stage -> name of the module that ends with its output
    # Stage -> block -> channels, for all blocks on the stage's grid, of any width: modules of a pyramid by name, of a
    # transformer, and of a stage without blocks, positions as ``outputs``.
    blocks: dict[int, dict[str | int, int]]


@cache
def unknown(backbone: str) -> str | None:
    """Return why ``timm/<name>`` is no encoder, with the nearest names; None if it is one."""
    import timm

    name = bare_name(backbone)
    architecture, _, tag = name.partition(".")
    tags = [full for full in timm.list_pretrained(f"{architecture}.*") if full != architecture]
    if not timm.is_model(architecture):
        known = timm.list_models(pretrained=bool(tag))
        return _no_such("network", get_close_matches(name, known) or get_close_matches(architecture, known))
    if tag and name not in tags:
        return _no_such("weights", get_close_matches(name, tags) or tags[:3])
    try:
        facts(backbone)
    except ModelMismatch as error:
        return str(error)
    return None


def _no_such(what: str, near: list[str]) -> str:
    """Return the message that timm has no network or weights of a name, with the nearest ones."""
    hint = f"; did you mean {' or '.join(PREFIX + name for name in near)}?" if near else ""
    return f"timm knows no {what} of that name{hint}"


def create(backbone: str, output_stride: int | None = None, device: str = "cpu") -> nn.Module:
    """Return a network of timm, random, without classifier; ModelMismatch: it cannot have that output stride."""
    import timm

    stride: dict[str, Any] = {} if output_stride is None else {"output_stride": output_stride}
    for arguments in SIZE_ARGUMENTS:
        try:
            with torch.device(device):
                network = timm.create_model(bare_name(backbone), num_classes=0, **arguments, **stride).eval()
        except TypeError:  # this network has no such argument
            continue
        except (AssertionError, ValueError, NotImplementedError, RuntimeError) as error:
            reason = " ".join(str(error).split())  # timm's may have several lines
            raise ModelMismatch(f"timm cannot build it with output stride {output_stride} ({reason})") from None
        has_stride = output_stride is None or _strides(network)[-1] == output_stride
        if has_stride:
            return network
        break  # some releases of timm ignore the argument
    raise ModelMismatch(f"it has no output stride of {output_stride}: its grid is fixed")


def _strides(network: Any) -> list[int]:
    """Return the strides of the maps that a network of timm states."""
    return [int(output["reduction"]) for output in _stated_outputs(network)]


def _stated_outputs(network: Any) -> list[dict[str, Any]]:
    """Return what a network of timm states about each of its maps."""
    info = network.feature_info
    return info.get_dicts() if hasattr(info, "get_dicts") else list(info)


def can_have(backbone: str, output_stride: int) -> bool:
    """Return whether a network of timm with a pyramid can have an output stride."""
    try:
        create(backbone, None if output_stride == STAGE_STRIDES[LAST_STAGE] else output_stride, "meta")
    except ModelMismatch:
        return False
    return True


@cache
def facts(backbone: str) -> TimmFacts:
    """Return the facts about ``timm/<name>``; ModelMismatch if it does not give the maps of an encoder."""
    net: Any = create(backbone, device="meta")
    _check_gives_maps(net)
    stated = _stated_outputs(net)
    strides = _strides(net)
    has_one_grid = len(set(strides)) == 1
    transformer = has_one_grid and len(strides) > LAST_STAGE
    outputs = _outputs_of_stages(strides, transformer)
    patch = strides[0] if transformer else STAGE_STRIDES[LAST_STAGE]
    of_stages = {i: stated[output] for i, output in outputs.items()}
    channels = {i: int(output["num_chs"]) for i, output in of_stages.items()}
    stages = {i: str(output["module"]) for i, output in of_stages.items()}
    side = patch * PROBE_CELLS
    if transformer:
        _demanded_maps(net, side, outputs.values())
        larger = []
        blocks = _transformer_blocks(outputs, channels)
    else:  # one pixel more gives one more cell; a network that refuses it takes whole patches alone
        blocks = _pyramid_blocks(net, side, outputs, stages)
        larger = _maps(net, side + 1, outputs.values())
    if not larger:
        _demanded_maps(net, side + patch, outputs.values())
    for i in sorted(stages, reverse=True):
        net.prune_intermediate_layers([outputs[i]], prune_norm=not transformer)
        blocks[i] = _blocks_until(stages[i], net, blocks[i])
    centred = bool(larger) and larger[-1].shape[-1] > PROBE_CELLS
    return TimmFacts(
        transformer=transformer,
        patch=patch,
        centred=centred,
        outputs=outputs,
        channels=channels,
        stages=stages,
        blocks=blocks,
    )


def _check_gives_maps(net: Any) -> None:
    """Refuse a network that states no maps, or returns none."""
    states_maps = getattr(net, "feature_info", None) is not None
    if not states_maps or not hasattr(net, "forward_intermediates"):
        raise ModelMismatch("it returns no intermediate maps (timm's forward_intermediates)")


def _outputs_of_stages(strides: list[int], transformer: bool) -> dict[int, int]:
    """Return for each stage the position of its map among timm's: quarters of a transformer, last maps of a stride."""
    if transformer:
        return {i: len(strides) * i // LAST_STAGE - 1 for i in STAGE_STRIDES}
    if not set(STAGE_STRIDES.values()) <= set(strides):
        raise ModelMismatch(f"its maps have strides {', '.join(map(str, strides))}; an encoder needs 4, 8, 16 and 32")
    last = {stride: position for position, stride in enumerate(strides)}
    return {i: last[stride] for i, stride in STAGE_STRIDES.items()}


def _transformer_blocks(outputs: dict[int, int], channels: dict[int, int]) -> dict[int, dict[str | int, int]]:
    """Return the blocks of each stage of a transformer, by position, and their widths."""
    blocks: dict[int, dict[str | int, int]] = {}
    begin = 0
    for stage, end in outputs.items():
        positions = range(begin, end + 1)
        blocks[stage] = dict.fromkeys(positions, channels[stage])
        begin = end + 1
    return blocks


def _maps(net: Any, side: int, outputs: Iterable[int]) -> list[Tensor]:
    """Return the maps of an image without numbers; none if the network takes no such side."""
    try:
        image = torch.empty(1, 3, side, side, device="meta")
        return net.forward_intermediates(image, indices=[*outputs], intermediates_only=True)
    except (AssertionError, RuntimeError, ValueError):
        return []


def _demanded_maps(net: Any, side: int, outputs: Iterable[int]) -> list[Tensor]:
    """Return the maps of an image without numbers; ModelMismatch: the network takes no such side."""
    maps = _maps(net, side, outputs)
    if not maps:
        raise ModelMismatch(f"it takes no images of {side} pixels; an encoder takes many sides")
    return maps


def _pyramid_blocks(
    net: nn.Module, side: int, outputs: dict[int, int], stages: dict[int, str]
) -> dict[int, dict[str | int, int]]:
    """Return the blocks of each stage of a pyramid and their widths, by a pass without numbers.

    A block is a module with parts of its own, in an ``nn.Sequential``, ``nn.ModuleList`` or one of ``stages``; it
    holds no other block, and its output has the shape of the stage's, or is on its grid and of a class of such a block.
    A stage without one has its output's position instead.
    """
    with _shapes_of(_possible_blocks(net, stages)) as shapes:
        maps = _demanded_maps(net, side, outputs.values())
    kinds = {name: type(net.get_submodule(name)) for name in shapes}
    blocks: dict[int, dict[str | int, int]] = {}
    for (stage, position), output in zip(outputs.items(), maps):
        widths = _widths_on_grid(shapes, tuple(output.shape[2:]))
        as_wide = [name for name, width in widths.items() if width == output.shape[1]]
        block_kinds = {kinds[name] for name in _innermost(as_wide)}
        alike = _innermost([name for name in widths if kinds[name] in block_kinds])
        blocks[stage] = {name: widths[name] for name in alike} or {position: output.shape[1]}
    return blocks


@contextmanager
def _shapes_of(blocks: dict[str, nn.Module]) -> Iterator[dict[str, tuple[int, ...]]]:
    """Yield the shapes of the maps that modules return in the pass within, without the batch, by name."""
    shapes: dict[str, tuple[int, ...]] = {}

    def keep(name: str, module: nn.Module, inputs: Any, output: Any) -> None:
        if isinstance(output, Tensor) and output.ndim == 4:
            shapes[name] = tuple(output.shape[1:])

    handles = [block.register_forward_hook(partial(keep, name)) for name, block in blocks.items()]
    yield shapes
    for handle in handles:
        handle.remove()


def _blocks_until(end: str, pruned: nn.Module, blocks: dict[str | int, int]) -> dict[str | int, int]:
    """Return the blocks that a network has which was pruned to a stage; ModelMismatch: it lacks the stage's ``end``."""
    parts = {name for name, _ in pruned.named_modules()}
    if end not in parts:
        raise ModelMismatch(f"timm states '{end}' as the end of a stage, and the network has no such part")
    return {block: width for block, width in blocks.items() if isinstance(block, int) or block in parts}


def _possible_blocks(net: nn.Module, stages: dict[int, str]) -> dict[str, nn.Module]:
    """Return the modules with parts of their own in containers and stages, but for what halves the grid."""
    candidates = {}
    for outer, container in net.named_modules():
        if not isinstance(container, CONTAINERS) and outer not in stages.values():
            continue
        for inner, part in container.named_children():
            has_parts = not isinstance(part, CONTAINERS) and any(part.children())
            if has_parts and inner != "downsample":
                candidates[f"{outer}.{inner}"] = part
    return candidates


def _widths_on_grid(shapes: dict[str, tuple[int, ...]], grid: tuple[int, ...]) -> dict[str, int]:
    """Return the channels of outputs on a grid: (C, h, w), or (h, w, C) in networks of windows."""
    widths = {}
    for name, shape in shapes.items():
        if shape[1:] == grid:
            widths[name] = shape[0]
        elif shape[:2] == grid:
            widths[name] = shape[2]
    return widths


def _innermost(names: list[str]) -> list[str]:
    """Return the modules that hold no other one of them."""
    outer = set()
    for name in names:
        outer |= {other for other in names if name.startswith(f"{other}.")}
    return [name for name in names if name not in outer]


def pretraining_of_tag(architecture: str, tag: str) -> str | None:
    """Return the data that weights of timm were trained on; None: their tag does not say."""
    parts = re.split(r"[_.\-]", tag.lower())
    data = [words for part, words in DATA.items() if part in parts]
    if "clip" in architecture or _any_starts(parts, IMAGE_TEXT_PARTS):
        data.insert(0, "image-text pairs (CLIP)")
    if architecture.startswith(("samvit", "sam2")):
        data.append(DATA["sa1b"])
    if not data and not set(parts).isdisjoint(ON_IMAGENET):
        data.append(IMAGENET)
    if "ft" not in parts and _any_starts(parts, SELF_SUPERVISED_PARTS):
        data.append("self-supervised")
    return ", ".join(dict.fromkeys(data)) or None


def _any_starts(parts: list[str], prefixes: tuple[str, ...]) -> bool:
    return any(part.startswith(prefixes) for part in parts)
