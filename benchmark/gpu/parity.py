"""Part 2: the measured cases of the published models, in float32 without TF32 at the tests' bounds, and in bf16.

The cases lie beside the repository (``../shared``, or the folder that SYMNET_SHARED names).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from typing import Any

import torch

from benchmark.gpu.settings import BF16, ERRORS, Settings, Skipped
from benchmark.reporting import Table
from util.engine.network import FLOAT32
from util.errors import one_line

TITLE = "measured cases"
NEEDS = ("yaml", "scipy", "cv2", "tqdm", "safetensors")
SECONDS, CONTINUES = 40, False
NO_CASES = "all cases"
QUICK_CASES = (("insid3", "cnn_1shot_nocandidate"),)  # milliseconds
SHOWN = ("loss", "final", "logits", "out")  # names of the tensors whose deviation in bf16 is shown
FEATURES_GIVEN = "insid3"  # whose cases begin after the encoder and have nothing in bf16


def units(settings: Settings) -> dict[str, Any]:
    """Return a unit for each case, one that is skipped if there are none."""
    try:
        check = import_module("tests.parity_check")
    except ModuleNotFoundError as error:
        return {NO_CASES: partial(_skipped, f"not installed: {error.name}")}
    known = check.cases()
    chosen = [case for case in known if not settings.quick or case in QUICK_CASES]
    if not chosen:
        return {NO_CASES: partial(_skipped, f"no measured cases at {check.SHARED}; SYMNET_SHARED names another folder")}
    return {f"{model} {stem}": partial(_compared, model, stem) for model, stem in chosen}


def tables(results: dict[str, dict[str, Any]]) -> dict[str, Table]:
    """Return the table of all cases."""
    header = ["case", "tensors", "within bounds", "worst tensor", "absolute", "relative", "bf16: loss or final output"]
    lines = [
        [
            name,
            str(row["tensors"]),
            str(row["within"]),
            row["worst"],
            f"{row['absolute']:.1e}",
            f"{row['relative']:.1e}",
            "" if row["bf16"] is None else f"{row['bf16']:.1e}",
        ]
        for name, row in results.items()
    ]
    return {"float32 without TF32; deviations in bf16 are relative": (header, lines)} if lines else {}


@contextmanager
def exact_float32() -> Iterator[None]:
    """Switch TF32 off for matrix products and convolutions."""
    products, convolutions = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = products, convolutions


def _skipped(reason: str, settings: Settings) -> dict[str, Any]:
    raise Skipped(reason)


def _compared(model: str, stem: str, settings: Settings) -> dict[str, Any]:
    """Return the worst deviation of a case, beside its bounds, and the relative one of its output in bf16."""
    check = import_module("tests.parity_check")
    with exact_float32():
        found = check.deviations(model, stem, settings.device, FLOAT32)
    worst = max(found, key=lambda one: (not one.within, one.relative))
    outside = [one.name for one in found if not one.within]
    mixed, errors = None, []
    if model != FEATURES_GIVEN:
        try:
            rough = check.deviations(model, stem, settings.device, BF16)
            mixed = max((one.relative for one in rough if one.name.startswith(SHOWN)), default=None)
        except Exception as error:  # float32 has its result
            errors.append(f"{BF16}: {type(error).__name__}: {one_line(error)}")
    return {
        "tensors": len(found),
        "within": len(found) - len(outside),
        "outside": outside,
        "worst": worst.name,
        "absolute": worst.absolute,
        "relative": worst.relative,
        "bf16": mixed,
        ERRORS: errors,
    }
