"""Networks and tokenizers of the optional package ``transformers``, from folders or from the hub of models."""

import importlib
import ssl
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import torch
from torch import nn

from model.contract import FewShotModel
from model.mismatch import ModelMismatch

PATIENCE = 4  # seconds in which a server must answer before anything is fetched from it


def load_parts(model: type[FewShotModel], settings: Any) -> list[Any]:
    """Return what a model takes beside settings and task: networks, and a tokenizer; errors as ``load_from_hub``."""
    return [load_from_hub(kind, settings.weights[i]) for kind, i in model.pretrained_parts.items()]


def load_from_hub(kind: str, weights: str) -> Any:
    """Return a network, in float32, or a tokenizer of a class of ``transformers``, from a folder or from the hub.

    ModelMismatch: the package is absent or too old, the network cannot be had, or its file lacks tensors, which
    would start from random values.
    """
    if torch.get_default_device().type == "meta":
        raise NotImplementedError("a network that comes whole has values")
    try:
        library, folder = importlib.import_module("transformers"), Path(weights).is_dir()
        library.logging.set_verbosity_error()  # one line of ours reports it
        library.logging.disable_progress_bar()
        builder = getattr(library, kind)
    except (ImportError, AttributeError) as error:
        fix = "pip install -r requirements-foundation.txt (Python 3.11 or later)"
        raise ModelMismatch(f"this method needs {kind} of the package transformers ({error}): {fix}") from None
    form = {"dtype": "float32", "use_safetensors": True, "output_loading_info": True}
    try:
        with nullcontext() if folder else hub():
            if not issubclass(builder, nn.Module):
                return builder.from_pretrained(weights, local_files_only=folder)
            network, found = builder.from_pretrained(weights, local_files_only=folder, **form)
    except Exception as error:  # many kinds: gated, no network, no such name, no config, a damaged file
        text = " ".join(str(error).split())[:200]
        why = f"no such folder, and the hub gave no network of this name ({text}); give model.weights a folder"
        if folder:
            why = f"this folder holds no such network ({text}); it needs config.json and model.safetensors"
        elif any(word in text.lower() for word in ("gated", "401", "403")):
            why = "is gated: ask for access on its page, then `hf auth login`; or give model.weights a folder"
        raise ModelMismatch(f"model.weights = {weights}: {why}") from None
    if lacking := sorted({*found["missing_keys"], *(str(key) for key, *_ in found["mismatched_keys"])}):
        lacks = f"lacks {len(lacking)} tensors of {kind}, such as {lacking[0]}, which would be random"
        fix = "take a file of this network, or another release of transformers: pip install -U transformers"
        raise ModelMismatch(f"model.weights = {weights}: {lacks}; {fix}")
    return network


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
