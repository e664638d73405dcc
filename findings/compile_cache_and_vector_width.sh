#!/bin/sh
# sh findings/compile_cache_and_vector_width.sh: torch.compile's cache and ATEN_CPU_CAPABILITY, on a CPU with AVX-512.
#
# Guess: ATEN_CPU_CAPABILITY=avx2, which makes numbers comparable between processors, gives right numbers in any process.
# Behaviour: a kernel that torch.compile has kept for AVX-512 is taken from its cache and compiled for AVX2, half as wide:
# the second process below gets wrong numbers, without a word, and right ones where the cache is off.
# Seen with torch 2.13.0 and 2.14.1: largest differences from eager 0.0, 4.87 and 0.0.
set -e
grep -q avx512vl /proc/cpuinfo || { echo "this needs a processor with AVX-512"; exit 2; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 numpy setuptools
cat >"$folder/compare.py" <<'PYTHON'
import torch
from torch import nn

torch.set_num_threads(1)
torch.manual_seed(0)
network = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
image = torch.randn(5, 3)


def step(x):
    return (network(x) * 2).relu() - x.sum()


with torch.no_grad():
    difference = (torch.compile(step)(image) - step(image)).abs().max().item()
print(f"torch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}: {difference:.2f} from eager")
raise SystemExit(difference > 1e-3)
PYTHON
export TORCHINDUCTOR_CACHE_DIR="$folder/cache"
compare() { "$folder/venv/bin/python" "$folder/compare.py" 2>/dev/null; }
compare
if ATEN_CPU_CAPABILITY=avx2 compare; then
    echo "changed: the cache knows the vector width"
    exit 1
fi
ATEN_CPU_CAPABILITY=avx2 TORCHINDUCTOR_FORCE_DISABLE_CACHES=1 compare
