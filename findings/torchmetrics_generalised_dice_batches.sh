#!/bin/sh
# torchmetrics 1.9.0, torch 2.13.0, numpy 2.4.6, Python 3.11
# Guess: GeneralizedDiceScore of five images does not depend on how they are divided into batches, as MeanIoU does not.
# Behaviour: a class that an image lacks has the largest weight of that class in the batch, so that an image's value
#   depends on its neighbours.
# Seen on 27 November 2026: MeanIoU 0.538 each time; GeneralizedDiceScore 0.699 (one batch), 0.785 (4 and 1), 0.788
set -e
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torchmetrics==1.9.0 torch==2.13.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'END'
import numpy as np
import torch
from torchmetrics.segmentation import GeneralizedDiceScore, MeanIoU

random = np.random.default_rng(0)
label = random.integers(0, 3, (5, 24, 32))
label[3:] = 0
label[3, :2] = 1  # the last two images lack classes
is_wrong = random.random(label.shape) < 0.3
prediction = np.where(is_wrong, random.integers(0, 3, label.shape), label)
label, prediction = torch.from_numpy(label), torch.from_numpy(prediction)
spread = {}
for kind in (MeanIoU, GeneralizedDiceScore):
    values = []
    for batches in ([5], [4, 1], [1] * 5):
        metric = kind(num_classes=3, input_format="index")
        for part, true in zip(prediction.split(batches), label.split(batches)):
            metric.update(part, true)
        values.append(metric.compute().item())
    print(f"{kind.__name__}: in batches of 5 {values[0]:.3f}, of 4 and 1 {values[1]:.3f}, of 1 {values[2]:.3f}")
    spread[kind] = max(values) - min(values)
assert spread[MeanIoU] < 1e-5 and spread[GeneralizedDiceScore] > 0.01
END
