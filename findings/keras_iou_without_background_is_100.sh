#!/bin/sh
# keras 3.15.1 on jax 0.10.2, Python 3.11
# Guess: MeanIoU(ignore_class=0) is the mean IoU of the classes without background, the number that few-shot
#   segmentation reports.
# Behaviour: pixels whose true class is 0 are left out, so what is predicted on background costs nothing: a network that
#   predicts the object everywhere has 100 %. IoU(target_class_ids=[1]) is the object's IoU. A prediction of a class
#   beyond num_classes, such as an output for "unknown", is left out as well, also on pixels of the object.
# Seen on 30 November 2026, of an object on 25 of 400 pixels:
#   object everywhere: ignore_class=0 1.0000, target_class_ids=[1] 0.0625; class 2 on 20 pixels of the object: 1.0000
set -e
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check keras==3.15.1 jax==0.10.2 numpy==2.4.6
cd "$folder"
KERAS_BACKEND=jax KERAS_HOME=$folder venv/bin/python - 2>warnings.txt <<'END'
import keras
import numpy as np

truth = np.zeros((20, 20), np.int32)
truth[5:10, 5:10] = 1
everywhere = np.ones_like(truth)
unsure = truth.copy()
unsure[6:10, 5:10] = 2


def score(metric, prediction):
    metric.update_state(truth, prediction)
    return round(float(metric.result()), 4)


ignored = score(keras.metrics.MeanIoU(num_classes=2, ignore_class=0), everywhere)
of_object = score(keras.metrics.IoU(num_classes=2, target_class_ids=[1]), everywhere)
beyond = score(keras.metrics.IoU(num_classes=2, target_class_ids=[1]), unsure)
print(f"object everywhere: ignore_class=0 {ignored:.4f}, target_class_ids=[1] {of_object:.4f}; ", end="")
print(f"class 2 on 20 pixels of the object: {beyond:.4f}")
assert (ignored, of_object, beyond) == (1.0, 0.0625, 1.0)
END
if grep -i "class\|label\|range" warnings.txt; then exit 1; fi
