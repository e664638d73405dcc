#!/bin/sh
# torchvision 0.29.1, torch 2.14.1, numpy 2.4.6, Python 3.11
# Guess: create_feature_extractor() returns the output of the layer that is named, whatever else is named beside it.
# Behaviour: the ReLU layers of torchvision's networks write into their input. Where a later layer is named too, the
#   map of "features.0" (VGG-16) or "layer1.0.bn1" (ResNet-50) is that after the ReLU; alone it is that before.
# Seen on 27 November 2026: least value of the map, alone and beside a later one: VGG-16 -1.54 and 0.00, ResNet-50
#   -2.08 and 0.00
set -e
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torchvision==0.29.1 torch==2.14.1 numpy==2.4.6
"$folder/venv/bin/python" - <<'END'
import torch
from torchvision.models import resnet50, vgg16
from torchvision.models.feature_extraction import create_feature_extractor

torch.manual_seed(0)
image = torch.randn(1, 3, 64, 64)
for build, layer, later in ((vgg16, "features.0", "features.5"), (resnet50, "layer1.0.bn1", "layer1.0.conv2")):
    network = build().eval()
    with torch.no_grad():
        alone = create_feature_extractor(network, [layer])(image)[layer]
        beside = create_feature_extractor(network, [layer, later])(image)[layer]
    print(f"{build.__name__}, {layer}: least value alone {alone.min():.2f}, beside {later} {beside.min():.2f}")
    assert alone.min() < -0.1 and torch.equal(beside, alone.relu())
END
