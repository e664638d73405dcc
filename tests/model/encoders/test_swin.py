"""Swin-B: weights under its authors' and timm's names load, and its grids are exact at its one image side."""

import re

import torch

from model.dcama.dcama import DCAMA
from model.encoders.layouts import fit
from model.encoders.settings import EncoderSettings, build_encoder


def test_swin_names_of_its_authors_and_of_timm_become_ours() -> None:
    with torch.device("meta"):
        encoder = build_encoder(EncoderSettings(backbone="swin_b"), variant=DCAMA.variant)
    own, theirs, timm = encoder.state_dict(), {}, {}
    for ours, tensor in own.items():
        name = ours.replace(".mlp.0.", ".mlp.fc1.").replace(".mlp.3.", ".mlp.fc2.")
        name = name.replace("layer0.0.", "patch_embed.proj.").replace("layer0.2.", "patch_embed.norm.")
        for i in range(4):
            name = name.replace(f"layer{i + 1}.", f"layers.{i}.blocks.")
            name = name.replace(f"merge{i + 1}.", f"layers.{i}.downsample.")
        theirs[name] = tensor
        moved = re.sub(r"(\d)(?=\.downsample)", lambda m: str(int(m[0]) + 1), name)  # timm counts them otherwise
        timm[moved] = tensor
    unused = {"head.weight": None, "norm.weight": None, "layers.0.blocks.1.attn_mask": None}
    for given in (theirs | unused, {"head.fc.bias": None} | timm):
        found = fit(encoder, given)
        assert found.given.keys() == own.keys() and not found.others
        assert all(found.given[name] is tensor for name, tensor in own.items())
