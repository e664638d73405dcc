#!/bin/sh
# panoptica 2.1.7, Python 3.11
# Guess: the panoptic quality of a prediction that has all objects' pixels but the wrong classes is 0.
# Behaviour: without segmentation_class_groups the values of a mask number classes only while its objects are parted;
#   then objects are matched whatever their class. A cat that is called a dog is found, and so is everything if the
#   prediction knows one class only. With groups the class counts.
# Seen on 30 November 2026, for a cat of 100 and a dog of 225 pixels:
#   classes exchanged: panoptic quality 1.0, Dice 1.0; all of class 1: 1.0, 1.0
#   classes exchanged, with a group for each class: cat 0.0, dog 0.0
set -e
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check uv==0.13.9
UV_CACHE_DIR="$folder/cache" "$folder/venv/bin/uv" pip install --quiet --python "$folder/venv/bin/python" \
    panoptica==2.1.7 numpy==2.2.6 scipy==1.17.1 connected-components-3d==3.29.0
cd "$folder"
venv/bin/python - <<'END'
import numpy as np
import panoptica
from panoptica import ConnectedComponentsInstanceApproximator, InputType, NaiveThresholdMatching, Panoptica_Evaluator
from panoptica.utils.label_group import LabelGroup
from panoptica.utils.segmentation_class import SegmentationClassGroups

panoptica.disable_citation_reminder()
truth = np.zeros((40, 40), np.uint8)
truth[5:15, 5:15] = 1  # a cat
truth[20:35, 20:35] = 2  # a dog
exchanged = np.choose(truth, [0, 2, 1]).astype(np.uint8)
one_class = (truth > 0).astype(np.uint8)


def scores(prediction, groups=None):
    evaluator = Panoptica_Evaluator(
        expected_input=InputType.SEMANTIC,
        instance_approximator=ConnectedComponentsInstanceApproximator(),
        instance_matcher=NaiveThresholdMatching(),
        segmentation_class_groups=groups,
    )
    results = evaluator.evaluate(prediction, truth)
    return {group: (float(result.pq), float(result.sq_dsc)) for group, result in results.items()}


groups = SegmentationClassGroups({"cat": LabelGroup(1), "dog": LabelGroup(2)})
seen = scores(exchanged), scores(one_class), scores(exchanged, groups)
print("exchanged", seen[0], "all of class 1", seen[1], "exchanged, with groups", seen[2])
assert list(seen[0].values()) == list(seen[1].values()) == [(1.0, 1.0)]
assert [quality for quality, _ in seen[2].values()] == [0.0, 0.0]
assert scores(truth, groups)["cat"] == scores(truth, groups)["dog"] == (1.0, 1.0)
END
