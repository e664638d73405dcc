#!/bin/sh
# torch 2.13.0 (and 2.14.1), onnx 1.23.2, onnxscript 0.7.2, onnxruntime 1.32.0, numpy 2.4.6, Python 3.11
# Guess: F.logsigmoid(), which exists to be exact where a sigmoid is 0, stays so in torch.onnx.export().
# Behaviour: it is written as Log of Sigmoid: the logarithm of a small probability is minus infinity.
# Seen on 27 November 2026: of -5, -50 and -100 torch [-5.007 -50 -100], ONNX Runtime [-5.007 -inf -inf]
set -e
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 onnx==1.23.2 onnxscript==0.7.2 onnxruntime==1.32.0 numpy==2.4.6
cd "$folder"
venv/bin/python - <<'END'
import numpy as np
import onnxruntime
import torch
from torch import nn

logits = torch.tensor([-5.0, -50.0, -100.0])
torch.onnx.export(nn.LogSigmoid().eval(), (logits,), "logsigmoid.onnx", dynamo=True, verbose=False)
session = onnxruntime.InferenceSession("logsigmoid.onnx")
(exported,) = session.run(None, {session.get_inputs()[0].name: logits.numpy()})
exact = nn.functional.logsigmoid(logits).numpy()
print(f"torch {exact.round(3)}, ONNX Runtime {exported.round(3)}")
assert np.isfinite(exact).all() and abs(exported[0] - exact[0]) < 1e-3 and np.isneginf(exported[1:]).all()
END
