#!/bin/sh
# monai 1.6.1, torch 2.14.1 (2.5 GB with its libraries), Python 3.11
# Guess: FocalLoss(ignore_index=255) of labels without unknown pixels is FocalLoss() of them, and with unknown pixels
#   that of the rest, as it is with DiceLoss.
# Behaviour: with ignore_index the focal loss is that of the rest times the number of classes, whether there are unknown
#   pixels or not. Beside a Dice loss it then weighs as many times more. DiceLoss is right.
# Seen on 30 November 2026, with ignore_index over without, unknown pixels taken out:
#   3 classes: focal 3.000, with unknown pixels 3.000, Dice 1.000; 5 classes: focal 5.000, with unknown pixels 5.000,
#   Dice 1.000
set -e
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check uv==0.13.9  # pip would take minutes for PyTorch
UV_CACHE_DIR="$folder/cache" "$folder/venv/bin/uv" pip install --quiet --python "$folder/venv/bin/python" monai==1.6.1 \
    torch==2.14.1 numpy==2.4.6
cd "$folder"
venv/bin/python - 2>warnings.txt <<'END'
import torch
from monai.losses import DiceLoss, FocalLoss

torch.manual_seed(0)


def ratio(kind, logits, labels, rest, **options):
    """The loss with ignore_index over the loss without it on the rest, the rows above ``rest``."""
    with_index = kind(to_onehot_y=True, ignore_index=255, **options)(logits, labels)
    return float(with_index / kind(to_onehot_y=True, **options)(logits[:, :, :rest], labels[:, :, :rest]))


for classes in (3, 5):
    logits = torch.randn(2, classes, 16, 16)
    labels = torch.randint(0, classes, (2, 1, 16, 16))
    partly = labels.clone()
    partly[:, :, 8:] = 255
    focal = ratio(FocalLoss, logits, labels, 16, use_softmax=True)
    unknown = ratio(FocalLoss, logits, partly, 8, use_softmax=True)
    dice = ratio(DiceLoss, logits, partly, 8, softmax=True)
    print(f"{classes} classes: focal {focal:.3f}, with unknown pixels {unknown:.3f}, Dice {dice:.3f}")
    assert abs(focal - classes) < 1e-3 and abs(unknown - classes) < 1e-3 and abs(dice - 1) < 1e-3
END
if grep -i "ignore\|weight\|reduc" warnings.txt; then exit 1; fi
