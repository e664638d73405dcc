"""The name of a run, such as ``pascal_split2_bam_resnet101``: of data set, fold, method and encoder."""

import re

from model.encoders.variant import PREFIX as TIMM_PREFIX
from util.config.folder import MAIN_METHOD, TIMM, method_names

FOLD = r"split(0|[1-9]\d*)"


def run_name(dataset: str, fold: int, method: str, encoder: str = "", networks: str = "") -> str:
    """Return the name of a fold's run, which leaves out the main method.

    Args:
        dataset: its name.
        fold: its number.
        method: its name.
        encoder: its name, such as ``resnet50`` or ``timm/<name>``; '': none.
        networks: those of a method that brings them, such as ``facebook/sam3``, with commas between; '': the usual.
    """
    words = (
        f"{dataset}_split{fold}",
        "" if method == MAIN_METHOD else method,
        encoder.replace("/", "-"),
        networks.replace("/", "--"),
    )
    return "_".join(filter(None, words))


def read_run_name(name: str) -> tuple[int, str, str] | None:
    """Return fold, method, and encoder or networks ('': the usual) of a run's name; None: the name has no fold."""
    found = re.fullmatch(rf"(?:.+_)?{FOLD}(?:_(.+))?", name)
    if found is None:
        return None
    words = found[2] or ""
    method = next((method for method in method_names() if f"{words}_".startswith(f"{method}_")), MAIN_METHOD)
    encoder = words.removeprefix(method).removeprefix("_").replace(f"{TIMM}-", TIMM_PREFIX).replace("--", "/")
    return int(found[1]), method, encoder


def short_and_long(name: str) -> tuple[str, str]:
    """Return a run's name without the main method, as it is made, and with it, as a file may have it."""
    short = re.sub(rf"({FOLD})_{MAIN_METHOD}(?=_|$)", r"\1", name)
    return short, re.sub(rf"({FOLD})", rf"\1_{MAIN_METHOD}", short, count=1)
