"""Measure encoders: time, memory and parameters of one image's pass, beside the plain ResNet-50 at the same time.

The unit and the encoder take turns; a result in units is the median over rounds. Weights are random: costs do not
depend on them.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict, dataclass
from typing import Any

import torch

from benchmark.plain_encoder import PlainEncoder
from benchmark.process import Measurement, measure
from benchmark.reporting import add_common_options, conditions, progress, report, set_up, whole
from benchmark.timing import Clock, in_turns, quotient
from benchmark.ways import Run
from model.encoders.encoder import Encoder
from model.encoders.registry import families, problem_of, spec_of
from model.encoders.resnet import ResNetEncoder
from model.encoders.settings import BareEncoderSettings, build_encoder
from util.cli import words
from util.errors import UserError

REFERENCE = "resnet50"
UNIT, MEASURED = "unit", "measured"
SIDE = 473  # pixels, the published side of most methods
DEFAULTS = (
    "resnet50",
    "resnet101",
    "vgg16",
    "timm/resnet50.tv_in1k@8",
    "timm/convnext_tiny@16",
    "timm/tf_efficientnet_lite0@16",
    "timm/tf_efficientnet_lite0@8",
    "timm/swin_base_patch4_window12_384@32",
    "timm/vit_small_patch14_reg4_dinov2.lvd142m",
    "timm/vit_base_patch16_dinov3.lvd1689m",
)
AT = "@"  # between a backbone and its output stride
MILLION = 1e6
HEADER = ["encoder", "px", "grid", "M parameters", "units", "s", "MiB above network and image"]


@dataclass(frozen=True)
class Pass(Measurement):
    """One image through an encoder."""

    backbone: str
    stride: int | None  # None: its own
    size: int

    def prepare(self, device: torch.device) -> Run:
        """Return the pass, without a graph."""
        encoder, image = self.encoder(device), torch.zeros(1, 3, self.size, self.size, device=device)
        return torch.inference_mode()(lambda: encoder(image))

    def encoder(self, device: torch.device) -> Encoder:
        """Return the encoder with random weights, in evaluation mode."""
        torch.manual_seed(0)
        return build_encoder(_settings(self.backbone, self.stride)).eval().to(device)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    default = ",".join(DEFAULTS)
    parser.add_argument("--encoders", default=default, help=f"names, {AT}8 or {AT}16: output stride; default {default}")
    parser.add_argument(
        "--size", type=whole, default=SIDE, help=f"image side in pixels, or the nearest; default {SIDE}"
    )
    add_common_options(parser)


def run(options: argparse.Namespace) -> int:
    """Measure every encoder and print the table."""
    named = [_parse(text, options.size) for text in words(options.encoders)]
    clock = set_up(options)
    measured_under = conditions(clock, options.threads)
    rows = [_measured(*encoder, options, clock) for encoder in named]
    title = (
        f"one image, median of {options.repeats}; a unit is one image of {options.size} px through the plain ResNet-50"
    )
    lines = [
        [
            row["backbone"] + (f", stride {row['stride']}" if row["stride"] else ""),
            str(row["size"]),
            f"{row['grid']} x {row['grid']}",
            f"{row['parameters'] / MILLION:.1f}",
            f"{row['units']:.2f}",
            f"{row['seconds']:.3f}",
            f"{row['mib']:.0f}",
        ]
        for row in rows
    ]
    return report(options, measured_under, {title: (HEADER, lines)}, rows)


def _settings(backbone: str, stride: int | None) -> BareEncoderSettings:
    return BareEncoderSettings(backbone=backbone, output_stride=stride)  # type: ignore[arg-type]


def _parse(text: str, size: int) -> tuple[str, int | None, int]:
    """Return backbone, output stride and the nearest side that the encoder takes.

    Raises:
        UserError: an unknown encoder, or a stride that it cannot have.
    """
    backbone, at, stride = text.partition(AT)
    problem = problem_of(backbone, families())
    if problem is None and at and not stride.isdecimal():
        problem = f"{AT}{stride} is no output stride; write such as {REFERENCE}{AT}8"
    settings = _settings(backbone, int(stride) if at and problem is None else None)
    if problem is None:
        problem = next((f"{key} {wrong}" for key, wrong in filter(None, [settings.problem()])), None)
    if problem is not None:
        raise UserError(f"--encoders {text}: {problem}")
    spec, (step, rest) = spec_of(backbone), settings.size_rule() or (1, 0)
    below = (size - rest) // step * step + rest
    allowed = spec.sides or (below, below + step)
    return backbone, settings.output_stride, min(allowed, key=lambda side: abs(side - size))


def _measured(
    backbone: str, stride: int | None, size: int, options: argparse.Namespace, clock: Clock
) -> dict[str, Any]:
    """Return seconds, units, memory and parameters of an encoder's pass."""
    progress(f"{backbone}, {size} px")
    case = Pass(backbone, stride, size, threads=options.threads, device=str(clock.device))
    (outcome,) = measure([case])
    seconds = in_turns(
        {UNIT: _unit(options.size, clock.device), MEASURED: case.prepare(clock.device)}, options.repeats, clock
    )
    return {
        **{key: value for key, value in asdict(case).items() if key in ("backbone", "stride", "size")},
        "grid": _settings(backbone, stride).grid(size),
        "parameters": sum(p.numel() for p in case.encoder(torch.device("meta")).parameters()),
        "units": quotient(seconds, MEASURED, UNIT),
        "seconds": sorted(seconds[MEASURED])[options.repeats // 2],
        "mib": max(outcome.peaks) - outcome.before,
        "rounds": seconds,
    }


def _unit(size: int, device: torch.device) -> Run:
    """Return one image through the plain ResNet-50 with the deep stem."""
    encoder = PlainEncoder(ResNetEncoder(REFERENCE, deep_stem=True).eval().to(device))
    image = torch.zeros(1, 3, size, size, device=device)
    return torch.inference_mode()(lambda: encoder(image))
