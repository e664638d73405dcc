"""Imports change nothing in their process and load nothing that is not needed; commands configure it.

``from photos import Segmenter`` works in every folder.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.paths import REPOSITORY
from util.cli import HUGE_PAGES

pytestmark = pytest.mark.process

THIRD_PARTY = {"TORCHINDUCTOR_CACHE_DIR", "CRC32C_SW_MODE"}  # set by imports of torch and tensorboardX
UNNEEDED = {"photos.command", "photos.page"}
# What takes up to seconds to import, and no photo needs.
SLOW = {"timm", "torchvision", "torch._dynamo", "torch.onnx", "matplotlib", "gensim", "transformers", "huggingface_hub"}
SLOW |= {"skimage", "scipy.stats", "scipy.optimize", "tensorboardX", "torch.distributed.run"}


CODE = f"""
import ctypes, json, logging, os, signal, sys, cv2, torch
called = []
find = ctypes.CDLL.__getattr__
ctypes.CDLL.__getattr__ = lambda library, name: called.append(name) or find(library, name)

def state():
    handlers = [str(signal.getsignal(s)) for s in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD)]
    threads = [cv2.getNumThreads(), torch.get_num_threads()]
    logs = {{"raises": logging.raiseExceptions, "handlers": logging.root.handlers}}
    return {{"environment": dict(os.environ), "logs": logs, "handlers": handlers, "threads": threads}}

states = [state()]
from photos import Segmenter
assert not {UNNEEDED!r} & {{*sys.modules}}
from util.config.read import read_config
read_config("{REPOSITORY}/config/pascal/ssp.yaml")
photo = 255 * torch.eye(64, dtype=torch.uint8).expand(3, 64, 64)
segmenter = Segmenter({{"line": [(photo, photo[0])]}}, side=129)
segmenter(photo).save("results", "line.1")
from model.encoders.settings import EncoderSettings, build_encoder
build_encoder(EncoderSettings(backbone="resnet18"))
import predict, photos.page.server
assert not {SLOW!r} & {{*sys.modules}}, "a photo and the page wait for them"
import util.launch, util.run.rehearsal, util.benchmark
assert "mallopt" not in called, "an import changes the allocator"
states.append(state())
from util.cli import configure_process
configure_process()
print(json.dumps([*states, state()]))
"""


def test_a_segmenter_in_another_folder_changes_nothing_but_a_command_does(tmp_path: Path) -> None:
    given_environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(
        [sys.executable, "-c", CODE], cwd=tmp_path, env=given_environment, capture_output=True, text=True
    )
    assert done.returncode == 0 and done.stderr == "", done.stderr
    assert (tmp_path / "results/line.1_mask.png").is_file()
    before, imported, configured = json.loads(done.stdout)
    assert configured["environment"] == {**imported["environment"], HUGE_PAGES: "1"}
    assert configured["logs"]["raises"] is False
    for name in THIRD_PARTY:
        imported["environment"].pop(name, None)
    assert imported == before
