#!/bin/sh
# miseval 1.3.0, numpy 2.4.6, Python 3.11
# Guess: a class that neither mask shows has the same Dice and IoU, since one is a function of the other: both 1, both 0
#   or none.
# Behaviour: its Dice ("DSC") is 1 and its IoU 0, so of perfect predictions the mean Dice is 100 % and the mean IoU is
#   not. Sensitivity, precision, kappa and MCC of the class are 0, specificity, accuracy and AUC are 1.
# Seen on 30 November 2026, of equal masks with two of three classes:
#   DSC [1.0, 1.0, 1.0], IoU [1.0, 1.0, 0.0]; SENS 0.0, PREC 0.0, KAP 0.0, MCC 0.0, SPEC 1.0, ACC 1.0, AUC 1.0
set -e
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check miseval==1.3.0 numpy==2.4.6 numba==0.68.1 \
    scikit-learn==1.9.1 scipy==1.17.1
cd "$folder"
venv/bin/python - <<'END'
import numpy as np
from miseval import evaluate

truth = np.zeros((8, 8), int)
truth[:4] = 1


def scores(metric):
    return evaluate(truth, truth.copy(), metric=metric, multi_class=True, n_classes=3).tolist()


dice, iou = scores("DSC"), scores("IoU")
others = {metric: scores(metric)[2] for metric in ("SENS", "PREC", "KAP", "MCC", "SPEC", "ACC", "AUC")}
print(f"DSC {dice}, IoU {iou}; " + ", ".join(f"{metric} {score}" for metric, score in others.items()))
assert dice == [1.0, 1.0, 1.0] and iou == [1.0, 1.0, 0.0]
assert [*others.values()] == [0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0]
END
