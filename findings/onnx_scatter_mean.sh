#!/bin/sh
# torch 2.13.0 (and 2.14.1), onnx 1.23.2, onnxscript 0.7.2, onnxruntime 1.32.0, numpy 2.4.6, Python 3.11
# Guess: torch.onnx.export of a mean over clusters, scatter_reduce(reduce="mean"), equals torch, or is refused, since
#   ONNX has no such reduction.
# Behaviour: it is written as ScatterElements without a reduction: the last value of each cluster stands for its mean.
# Seen on 27 November 2026: torch [1.5, 3.0, 6.0], ONNX Runtime [2.0, 3.0, 8.0]
set -e
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 onnx==1.23.2 onnxscript==0.7.2 onnxruntime==1.32.0 numpy==2.4.6
cd "$folder"
venv/bin/python - <<'END'
import onnxruntime
import torch
from torch import nn


class Means(nn.Module):
    def forward(self, values, cluster):
        return torch.zeros(3).scatter_reduce(0, cluster, values, "mean", include_self=False)


inputs = (torch.tensor([1.0, 2.0, 3.0, 4.0, 8.0]), torch.tensor([0, 0, 1, 2, 2]))
torch.onnx.export(Means().eval(), inputs, "means.onnx", dynamo=True, verbose=False)
session = onnxruntime.InferenceSession("means.onnx")
names = [entry.name for entry in session.get_inputs()]
(exported,) = session.run(None, {name: value.numpy() for name, value in zip(names, inputs)})
means = Means()(*inputs)
print(f"torch {means.tolist()}, ONNX Runtime {exported.tolist()}")
assert means.tolist() == [1.5, 3, 6] and exported.tolist() == [2, 3, 8]
END
