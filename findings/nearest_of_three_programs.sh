#!/bin/sh
# pillow 13.0.0, opencv-python-headless 5.0.0.93, onnxruntime 1.32.0, onnx 1.23.2, numpy 2.4.6, Python 3.11
# Guess: nearest neighbours of 10 pixels at 7 places are one set of pixels in Pillow, OpenCV and ONNX's Resize with
#   its default settings, which all place pixels' centres alike.
# Behaviour: there are three sets. OpenCV's INTER_NEAREST begins at the edge of pixels (its INTER_NEAREST_EXACT is
#   Pillow's); ONNX rounds half a pixel down.
# Seen on 27 November 2026: Pillow [0, 2, 3, 5, 6, 7, 9], OpenCV [0, 1, 2, 4, 5, 7, 8], ONNX [0, 2, 3, 4, 6, 7, 9]
set -e
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check pillow==13.0.0 opencv-python-headless==5.0.0.93 onnxruntime==1.32.0 onnx==1.23.2 numpy==2.4.6
"$folder/venv/bin/python" - <<'END'
import cv2
import numpy as np
import onnxruntime
from onnx import TensorProto, helper
from PIL import Image

numbers = np.arange(10, dtype=np.float32)[None]
node = helper.make_node("Resize", ["x", "", "", "sizes"], ["y"], mode="nearest")
inputs = [
    helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1, 1, 10]),
    helper.make_tensor_value_info("sizes", TensorProto.INT64, [4]),
]
graph = helper.make_graph([node], "resize", inputs, [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
session = onnxruntime.InferenceSession(model.SerializeToString())
results = {
    "Pillow": np.asarray(Image.fromarray(numbers).resize((7, 1), Image.Resampling.NEAREST)),
    "OpenCV": cv2.resize(numbers, (7, 1), interpolation=cv2.INTER_NEAREST),
    "ONNX": session.run(None, {"x": numbers[None, None], "sizes": np.array([1, 1, 1, 7])})[0],
}
exact = cv2.resize(numbers, (7, 1), interpolation=cv2.INTER_NEAREST_EXACT)
assert np.array_equal(exact, results["Pillow"])
seen = {name: pixels.ravel().astype(int).tolist() for name, pixels in results.items()}
print(", ".join(f"{name} {pixels}" for name, pixels in seen.items()))
assert seen == {
    "Pillow": [0, 2, 3, 5, 6, 7, 9],
    "OpenCV": [0, 1, 2, 4, 5, 7, 8],
    "ONNX": [0, 2, 3, 4, 6, 7, 9],
}
END
