"""Methods over frozen networks of the optional package ``transformers``, which is imported where one is built."""

import importlib
import logging
import ssl
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlsplit

import numpy as np
import torch
from torch import Tensor, nn

from model.contract import FewShotModel, ModelSettings, Task
from model.mismatch import Mismatch

log = logging.getLogger("symnet")
PATIENCE = 4  # seconds in which a server must answer before anything is fetched from it


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
        names = ",".join(type(self)().weights)
        mend = f"names {len(self.weights)} network(s); the method has those of NET={names}, in this order"
        return None if len(self.weights) == names.count(",") + 1 and all(self.weights) else ("weights", mend)


class Foundation(FewShotModel):
    """A method that learns nothing, over networks that come whole from the hub or from folders."""

    learns = False
    any_size = True
    kinds: ClassVar[tuple[str, ...]]  # classes of the package, in the order of ``settings.weights``
    settings: Any  # a FoundationSettings
    networks: Any  # a ModuleList

    def __init__(self, settings: FoundationSettings, task: Task, networks: Sequence[nn.Module] = ()):
        """Take given networks in place of those that the settings name; errors as ``loaded``."""
        super().__init__(settings, task)
        self.networks = nn.ModuleList(networks or map(loaded, self.kinds, settings.weights))
        self.freeze()

    def frozen(self) -> Iterator[nn.Module]:
        """Yield the networks."""
        yield from self.networks

    def say_that_no_object_is_shown(self) -> None:
        """Log that an episode's supports are empty."""
        log.info("%s: no support shows a pixel of the object; the prediction is background", self.title)


def loaded(kind: str, weights: str) -> nn.Module:
    """Return a network of a class of ``transformers``, float32, from a folder or from the hub.

    Raises:
        Mismatch: the package is absent or too old, the network cannot be had, or its file lacks tensors, which would
            start from random values.
    """
    form = {"dtype": "float32", "use_safetensors": True, "output_loading_info": True}
    network, found = from_package(kind, weights, **form)
    if lacking := sorted({*found["missing_keys"], *(str(key) for key, *_ in found["mismatched_keys"])}):
        raise Mismatch(
            f"model.weights = {weights}: lacks {len(lacking)} tensors of {kind}, such as {lacking[0]}, which would be "
            "random; take a file of this network, or another release of transformers: pip install -U transformers"
        )
    return network


def from_package(kind: str, weights: str, **form: Any) -> Any:
    """Return what a class of ``transformers`` makes of a folder or of a name on the hub; errors as ``loaded``."""
    if torch.get_default_device().type == "meta":
        raise NotImplementedError("a network that comes whole has values")
    try:
        library, folder = importlib.import_module("transformers"), Path(weights).is_dir()
        library.logging.set_verbosity_error()  # one line of ours reports it
        library.logging.disable_progress_bar()
        builder = getattr(library, kind)
    except (ImportError, AttributeError) as error:
        mend = "pip install -r requirements-foundation.txt (Python 3.11 or later)"
        raise Mismatch(f"this method needs {kind} of the package transformers ({error}): {mend}") from None
    try:
        with nullcontext() if folder else hub():
            return builder.from_pretrained(weights, local_files_only=folder, **form)
    except Exception as error:  # many kinds: gated, no network, no such name, no config, a damaged file
        text = " ".join(str(error).split())[:200]
        why = f"no such folder, and the hub gave no network of this name ({text}); give model.weights a folder"
        if folder:
            why = f"this folder holds no such network ({text}); it needs config.json and model.safetensors"
        elif any(word in text.lower() for word in ("gated", "401", "403")):
            why = "is gated: ask for access on its page, then `hf auth login`; or give model.weights a folder"
        raise Mismatch(f"model.weights = {weights}: {why}") from None


@contextmanager
def hub() -> Iterator[None]:
    """Enclose a download from the hub; where it does not answer, its cache alone is read, without minutes of retries.

    An OSError says that the hub does not answer and its cache lacks a file.
    """
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    silence = None if before else silence_of(constants.ENDPOINT)
    constants.HF_HUB_OFFLINE = before or silence is not None
    try:
        yield
    except Exception as error:
        raise silence or error from None
    finally:
        constants.HF_HUB_OFFLINE = before


def silence_of(url: str) -> OSError | None:
    """Return why the server of a URL does not answer in ``PATIENCE`` seconds; None: it does, be it through a proxy."""
    answers: list[OSError | None] = []

    def ask() -> None:
        try:
            urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=PATIENCE).close()
            answers.append(None)
        except OSError as error:  # of HTTP or of a certificate: an answer, which the download itself judges
            spoke = isinstance(error, urllib.error.HTTPError) or isinstance(getattr(error, "reason", 0), ssl.SSLError)
            answers.append(None if spoke else error)

    thread = threading.Thread(target=ask, daemon=True)  # nothing else bounds the time in which a name is looked up
    thread.start()
    thread.join(PATIENCE)
    error = answers[0] if answers else f"no answer in {PATIENCE} seconds"
    return None if error is None else OSError(f"{urlsplit(url).netloc} cannot be reached: {error}")


def as_uint8(image_3hw: Tensor) -> np.ndarray:
    """Return an image, RGB in 0..255, rounded, (H, W, 3) uint8."""
    return image_3hw.float().round().clamp(0, 255).byte().permute(1, 2, 0).cpu().numpy()
