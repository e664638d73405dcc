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
    parts = []
    for kind, number in model.pretrained_parts.items():
        weights = settings.weights[number]
        try:
            parts.append(load_from_hub(kind, weights))
        except ModelMismatch as error:
            size = model.pretrained_sizes.get(weights)
            facts = f" ({size}, licence: {model.licence})" if size else ""
            raise ModelMismatch(f"{error}{facts}") from None
    return parts


def load_from_hub(kind: str, weights: str) -> Any:
    """Return a network, in float32, or a tokenizer of a class of ``transformers``, from a folder or from the hub.

    On the meta device a network has the shapes of its config, and its file is not read.

    ModelMismatch: the package is absent or too old, the network cannot be had, or its file lacks tensors, which
    would start from random values.
    """
    builder = _class_of_transformers(kind)
    is_folder = Path(weights).is_dir()
    options = {"dtype": "float32", "use_safetensors": True, "output_loading_info": True}
    try:
        with nullcontext() if is_folder else hub():
            if not issubclass(builder, nn.Module):
                return builder.from_pretrained(weights, local_files_only=is_folder)
            if torch.get_default_device().type == "meta":
                return builder(builder.config_class.from_pretrained(weights, local_files_only=is_folder))
            network, facts = builder.from_pretrained(weights, local_files_only=is_folder, **options)
    except Exception as error:  # many kinds: gated, no network, no such name, no config, a damaged file
        raise ModelMismatch(f"model.weights = {weights}: {_reason(error, is_folder)}") from None
    mismatched = {str(key) for key, *_ in facts["mismatched_keys"]}
    lacking = sorted(mismatched.union(facts["missing_keys"]))
    if lacking:
        lacks = f"lacks {len(lacking)} tensors of {kind}, such as {lacking[0]}, which would be random"
        fix = "take a file of this network, or another release of transformers: pip install -U transformers"
        raise ModelMismatch(f"model.weights = {weights}: {lacks}; {fix}")
    return network


def _class_of_transformers(name: str) -> Any:
    """Return a class of ``transformers``, which reports nothing by itself from now on."""
    try:
        library = importlib.import_module("transformers")
        library.logging.set_verbosity_error()  # one line of ours reports it
        library.logging.disable_progress_bar()
        return getattr(library, name)
    except (ImportError, AttributeError) as error:
        fix = "pip install 'transformers>=5' (Python 3.11 or later)"
        raise ModelMismatch(f"this method needs {name} of the package transformers ({error}): {fix}") from None


def _reason(error: Exception, is_folder: bool) -> str:
    """Return in words why a network could not be had, and the fix."""
    text = " ".join(str(error).split())[:200]
    if is_folder:
        return f"this folder holds no such network ({text}); it needs config.json and model.safetensors"
    if any(word in text.lower() for word in ("gated", "401", "403")):
        return "is gated: ask for access on its page, then `hf auth login`; or set model.weights to a folder"
    return f"no such folder, and the hub gave no network of this name ({text}); set model.weights to a folder"


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
            is_http = isinstance(error, urllib.error.HTTPError)
            is_certificate = isinstance(getattr(error, "reason", None), ssl.SSLError)
            answers.append(None if is_http or is_certificate else error)

    thread = threading.Thread(target=ask, daemon=True)  # nothing else bounds the time in which a name is looked up
    thread.start()
    thread.join(PATIENCE)
    problem = answers[0] if answers else f"no answer in {PATIENCE} seconds"
    if problem is None:
        return None
    return OSError(f"{urlsplit(url).netloc} cannot be reached: {problem}")
