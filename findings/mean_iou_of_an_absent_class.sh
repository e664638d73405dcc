#!/bin/sh
# kornia 0.9.0, pytorch-ignite 0.5.5, torchmetrics 1.9.0, torch 2.13.0, numpy 2.4.6, Python 3.11
# Guess: a class that is in neither label nor prediction does not change a mean IoU.
# Behaviour: it counts 1 in kornia and 0 in ignite, so that the mean grows or falls with the number of such classes.
#   torchmetrics leaves it out.
# Seen on 27 November 2026: background 0.8, class 0.75, a class that is absent: kornia 0.850, ignite 0.517,
#   torchmetrics 0.775
set -e
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check kornia==0.9.0 pytorch-ignite==0.5.5 torchmetrics==1.9.0 torch==2.13.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'END'
import kornia
import torch
from ignite.metrics import ConfusionMatrix, mIoU
from torch.nn import functional as F
from torchmetrics.classification import MulticlassJaccardIndex

label = torch.zeros(1, 8, 8, dtype=torch.long)
label[:, :4] = 1
prediction = torch.zeros_like(label)
prediction[:, :3] = 1
matrix = ConfusionMatrix(num_classes=3)
of_ignite = mIoU(matrix)
matrix.update((F.one_hot(prediction, 3).movedim(-1, 1).float(), label))
means = {
    "kornia": kornia.metrics.mean_iou(prediction, label, num_classes=3).mean().item(),
    "ignite": of_ignite.compute().item(),
    "torchmetrics": MulticlassJaccardIndex(3)(prediction, label).item(),
}
print(", ".join(f"{name} {mean:.3f}" for name, mean in means.items()))
assert [round(mean, 3) for mean in means.values()] == [0.85, 0.517, 0.775]
END
