"""Methods over frozen networks of the package ``transformers``: their settings, and the way to the networks.

The package is optional (``requirements-foundation.txt``) and imported where a network is built.
"""

import importlib
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from torch import Tensor, nn

from model.contract import FewShotModel, ModelSettings, Task
from model.encoders.weights import hub
from model.mismatch import Mismatch

WIDEST = 2  # missing tensors that a message names
ADVICE = "ask for access on its page, then `hf auth login`; or give model.weights a folder"


@dataclass
class FoundationSettings(ModelSettings):
    """The settings of every method over such networks; ``config/model/sam3.yaml`` explains them."""

    weights: list[str] = field(default_factory=list)  # of each network: a name on the hub, or a folder
    pretraining: str | None = None  # the data that the networks were trained on

    def backbone(self) -> str | None:
        """Return the networks as ``NET`` names them."""
        return ",".join(self.weights)

    def problem(self, size: int) -> tuple[str, str] | None:
        """Return (key, problem and remedy) if another number of networks is named than the method has."""
        count = len(type(self)().weights)
        fits = len(self.weights) == count and all(self.weights)
        mend = f"names {len(self.weights)} network(s), and the method has {count}: NET=a,b in the order of its YAML"
        return None if fits else ("weights", mend)


class Foundation(FewShotModel):
    """A method that learns nothing, over networks that come whole from the hub or from folders."""

    learns = False
    any_size = True
    kinds: ClassVar[tuple[str, ...]]  # classes of the package, in the order of ``settings.weights``
    settings: Any  # a FoundationSettings
    networks: Any  # a ModuleList

    def __init__(self, settings: FoundationSettings, task: Task, networks: list[nn.Module] | None = None):
        """Take given networks in place of those that the settings name; errors as ``loaded``."""
        super().__init__(settings, task)
        self.networks = nn.ModuleList(networks or map(loaded, self.kinds, settings.weights))
        self.freeze()

    def frozen(self) -> Iterator[nn.Module]:
        """Yield the networks."""
        yield from self.networks


def loaded(kind: str, weights: str) -> nn.Module:
    """Return a network of a class of ``transformers``, float32, from a folder or from the hub.

    Raises:
        Mismatch: the package is absent or too old, the network cannot be had, or its file lacks tensors, which would
            start from random values.
    """
    builder, folder = _class(kind), Path(weights).is_dir()
    try:
        with nullcontext() if folder else hub():
            network, found = builder.from_pretrained(
                weights, dtype="float32", use_safetensors=True, local_files_only=folder, output_loading_info=True
            )
    except Exception as error:  # many kinds: gated, no network, no such name, no config, a damaged file
        raise Mismatch(f"model.weights = {weights}: {_reason(error, folder)}") from None
    if lacking := sorted({*found["missing_keys"], *(str(key) for key, *_ in found["mismatched_keys"])}):
        names = ", ".join(lacking[:WIDEST])
        raise Mismatch(
            f"model.weights = {weights}: lacks {len(lacking)} tensors of {kind} ({names}, ...), which would be random; "
            "take a file of this network, or another release of transformers: pip install -U transformers"
        )
    return network


def tokens(weights: str, words: str, length: int) -> tuple[list[int], list[int]] | None:
    """Return token ids and attention mask of words by a network's own tokenizer; None where it has none."""
    builder = _class("AutoTokenizer")
    try:
        with nullcontext() if Path(weights).is_dir() else hub():
            out = builder.from_pretrained(weights)(words, padding="max_length", max_length=length, truncation=True)
    except Exception:  # no file of it, of many kinds
        return None
    return out["input_ids"], out["attention_mask"]


def _class(name: str) -> Any:
    try:
        library = importlib.import_module("transformers")
        library.logging.set_verbosity_error()  # it reports what is told here in one line
        library.logging.disable_progress_bar()
        return getattr(library, name)
    except (ImportError, AttributeError) as error:
        mend = "pip install -r requirements-foundation.txt (Python 3.11 or later)"
        raise Mismatch(f"this method needs {name} of the package transformers ({error}): {mend}") from None


def _reason(error: Exception, folder: bool) -> str:
    """Return in words why a network was not loaded, and the mend."""
    text = " ".join(str(error).split())
    if folder:
        return f"this folder holds no such network ({text[:120]}); it needs config.json and model.safetensors"
    if "gated" in text.lower() or "403" in text or "401" in text:
        return f"is gated, or not on the hub under this name: {ADVICE}"
    return f"no such folder here, and the hub gave no network of that name ({text[:160]}); give model.weights a folder"


def as_uint8(image_3hw: Tensor) -> np.ndarray:
    """Return an image, RGB in 0..255, rounded, (H, W, 3) uint8."""
    return image_3hw.float().round().clamp(0, 255).byte().permute(1, 2, 0).cpu().numpy()
