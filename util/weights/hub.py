"""Networks and tokenizers of the optional package ``transformers``, from folders or from the hub of models."""

import importlib
from pathlib import Path
from typing import Any

import torch
from torch import nn

from model.mismatch import ModelMismatch
from util.files.errors import as_user_error
from util.weights.sources import UNCONNECTED, fetch_from_hub


def load_from_hub(kind: str, weights: str) -> Any:
    """Return a network, in float32, or a tokenizer of a class of ``transformers``, from a folder or from the hub.

    On the meta device a network has the shapes of its config, and its file is not read.

    ModelMismatch: the package is absent or too old, the network cannot be had, or its file lacks tensors, which
    would start from random values.
    """
    builder = _class_of_transformers(kind)
    is_folder = Path(weights).is_dir()
    try:
        if not issubclass(builder, nn.Module):
            return builder.from_pretrained(weights, local_files_only=is_folder)
        if torch.get_default_device().type == "meta":
            return builder(builder.config_class.from_pretrained(weights, local_files_only=is_folder))
        network, facts = builder.from_pretrained(
            weights, local_files_only=is_folder, dtype="float32", use_safetensors=True, output_loading_info=True
        )
    except Exception as error:  # many kinds: gated, no network, no such name, no config, a damaged file
        reason = " ".join(str(error).split())[:200]
        raise ModelMismatch(
            f"model.weights = {weights}: holds no such network ({reason}); name a folder of config.json and "
            "model.safetensors, or a network of the hub that is open to you; "
            f"{UNCONNECTED}: {fetch_from_hub(weights)}"
        ) from None
    mismatched = {str(key) for key, *_ in facts["mismatched_keys"]}
    if lacking := sorted(mismatched.union(facts["missing_keys"])):
        raise ModelMismatch(
            f"model.weights = {weights}: lacks {len(lacking)} tensors of {kind}, such as {lacking[0]}, which would be "
            "random; take a file of this network, or another release of transformers: pip install -U transformers"
        )
    return network


def _class_of_transformers(name: str) -> Any:
    """Return a class of ``transformers``, which reports nothing by itself from now on."""
    with as_user_error(
        ImportError,
        AttributeError,
        before=f"this method needs {name} of the package transformers (",
        after="): pip install 'transformers>=5' (Python 3.11 or later)",
        refusal=ModelMismatch,
    ):
        library = importlib.import_module("transformers")
        library.logging.set_verbosity_error()  # one line of ours reports it
        library.logging.disable_progress_bar()
        return getattr(library, name)
