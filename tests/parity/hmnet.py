"""HMNet's cases on drawn images through our network, in evaluation and in a training step."""

import json
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from model.episode import Output
from model.hmnet import blocks
from model.hmnet.hmnet import SHARPENED
from tests.helpers.paths import SHARED
from tests.parity.case import forward_case
from tests.parity.drawn.drawn import episode
from tests.parity.drawn.weights import fill
from tests.parity.watched import WATCHES, Case, Collect, Seen, keep, on_calls, with_ensemble

FOLDER = Path(__file__).parent / "drawn/hmnet"  # with the small cases
ELSEWHERE = SHARED / "parity/hmnet"  # with all
IMAGES = ("query", "query_label", "support", "support_label")  # in the order of the check sums
INPUTS = {"seeds", "shots", "side", "grid", "inputs_crc32", "cat"}
BOUND, HALF, LOSS, GRADIENT = 1e-4, 1e-3, 1e-5, 1e-3  # of norms; of what is stored in float16
WHERE = ("row", "col", "row_back", "col_back")
SEPARATE_SHOTS = 5  # whose weights have a layout of their own
FIRST_BASE = 6  # class of PASCAL's fold 0
LOUDER: dict[str, Callable[[Tensor], Tensor]] = {  # by the ends of names, what the weights of the cases have
    "A_logs": lambda x: torch.arange(1.0, x.shape[1] + 1).log() + 0.25 * x,
    "dt_projs_bias": lambda x: 10 * x - 3.5,
    "x_proj_weight": lambda x: 4 * x,
    "dt_projs_weight": lambda x: 8 * x,
    "kshot_rw.0.bias": lambda x: 1 + x,
    "kshot_rw.2.weight": lambda x: 2 * x,
}


def stems() -> list[str]:
    """Return the names of all cases that are there."""
    return sorted({path.stem for folder in (FOLDER, ELSEWHERE) for path in folder.glob("*.npz")})


def _file(name: str) -> Path:
    return next(folder / name for folder in (FOLDER, ELSEWHERE) if (folder / name).exists())


def deviations(stem: str, device: str = "cpu") -> Iterator[str]:
    """Yield each tensor of a case that differs by more than its bound, with the difference in words."""
    case = _case(stem)
    is_training = "cat" in case
    backbone, shots = stem.split("_")[0], int(case["shots"])
    ours = forward_case("hmnet", case, weights(backbone, shots), backbone=backbone, train=is_training, device=device)
    for name in sorted(case.keys() - INPUTS - {*IMAGES, "class_id"}):
        stored = case[name]
        want = stored.astype(np.float64)
        given = ours[name]
        assert given.shape == stored.shape, name
        apart = float(np.linalg.norm(given - want) / np.linalg.norm(want))
        bound = LOSS if name.startswith("loss") else HALF if stored.dtype == np.float16 else BOUND
        if apart > bound:
            yield f"{name}: {apart:.2g} of its norm"
    if is_training:
        norms = json.loads((FOLDER / f"{stem}.grad_norms.json").read_text())
        learnable = {name: norm for name, norm in norms.items() if norm is not None}
        assert learnable.keys() == ours["grad_norms"].keys()
        for name, norm in learnable.items():
            if abs(ours["grad_norms"][name] - norm) > GRADIENT * norm:
                yield f"gradient of {name}: {ours['grad_norms'][name]}, not {norm}"


def weights(backbone: str, shots: int) -> dict[str, Tensor]:
    """Return the weights of the cases of so many shots, under their published names."""
    of_layout = SEPARATE_SHOTS if shots == SEPARATE_SHOTS else 1
    shapes = json.loads((FOLDER / f"layout_{backbone}_pascal_{of_layout}shot.json").read_text())
    if shots > 1:
        mix = {"0.weight": (2, shots, 1, 1), "0.bias": (2,), "2.weight": (shots, 2, 1, 1), "2.bias": (shots,)}
        shapes |= {f"kshot_rw.{name}": shape for name, shape in mix.items()}
    state = {}
    for name, shape in shapes.items():
        louder = [change for end, change in LOUDER.items() if name.endswith(end)]
        value = fill(name, shape)
        state[name] = louder[0](value) if louder else value
    return state


def _case(stem: str) -> Case:
    """Return the arrays of a case, with its images and labels."""
    with np.load(_file(f"{stem}.npz")) as file:
        stored = dict(file)
    side, shots = int(stored["side"]), int(stored["shots"])
    episodes = [episode(int(seed), shots, side) for seed in stored["seeds"]]
    drawn = {name: np.concatenate([each[name] for each in episodes]) for name in episodes[0]}
    if "cat" in stored:
        drawn["query_label"][:, side // 3 : side // 3 + side // 12] = 255
        drawn["class_id"] = stored["cat"] + FIRST_BASE
    check_sums = [zlib.crc32(np.ascontiguousarray(drawn[name]).tobytes()) for name in IMAGES]
    assert check_sums == stored["inputs_crc32"].tolist(), "other images are drawn"
    for name in ("query", "support"):
        drawn[name] = np.moveaxis(drawn[name], -3, -1)
    return {**stored, **drawn}


def _of_directions(y_bkld: Tensor, side: int) -> dict[str, Tensor]:
    """Return the output of each direction of a scan on the map, (B, D, G, G)."""
    out = {}
    for number, where in enumerate(WHERE):
        alone = torch.zeros_like(y_bkld)
        alone[:, number] = y_bkld[:, number]
        out[where] = blocks.to_map(alone, side).permute(0, 3, 1, 2)
    return out


def watch(network: Any, case: Case) -> Collect:
    """Return the middle values of a pass: see ``tests/parity/watched.py``."""
    seen = Seen()
    on_maps: list[tuple[Tensor, int]] = []  # sequences that are put back, of the support's blocks, then the query's
    resized: list[Tensor] = []  # two maps of the support in each mix block, then two of the query
    needed: list[Any] = []
    hidden: list[Tensor] = []  # the query's is the last
    on_calls(blocks, "to_map", lambda inputs, _: on_maps.append((inputs[0], inputs[1] if len(inputs) > 1 else 1)))
    on_calls(blocks, "_resized", lambda inputs, _: resized.append(inputs[0]))
    of_support, of_base = network.scan.of_support, network.base_learner.hidden
    network.scan.of_support = lambda x: needed.append(of_support(x)) or needed[0]
    network.base_learner.hidden = lambda x: hidden.append(of_base(x)) or hidden[-1]
    keep(seen, {part: getattr(network, part) for part in ("fuse_query", "fuse_support", "shot_weights", "ensemble")})
    keep(seen, {"mid_mamba": network.scan})
    for number in (0, 1, 6):
        block = network.scan.blocks[number]
        keep(seen, {f"block{number}": block})
        of_block = block.of_support
        note = lambda x, number=number, of_block=of_block: (  # noqa: E731
            seen.__setitem__(f"support{number}", of_block(x)) or seen[f"support{number}"]
        )
        block.of_support = note

    def collect(_: Output) -> Seen:
        count = len(network.scan.blocks)
        out = seen | with_ensemble(seen)
        out |= dict(zip(("mid_query_feat", "mid_prototype"), seen["fuse_query in"]))
        out["mid_prior"] = seen["fuse_query in"][2] / SHARPENED
        out["mid_supp_feat"], _, out["mid_supp_mask"] = seen["fuse_support in"]
        out["mid_fuse_query"], out["mid_fuse_supp"] = seen["fuse_query"], seen["fuse_support"]
        for number in (0, 1, 6):
            out[f"mid_b{number}_query"] = seen[f"block{number}"].permute(0, 3, 1, 2)
            out[f"mid_b{number}_supp"] = seen[f"support{number}"][0].permute(0, 3, 1, 2)
        maps = [*on_maps]
        out |= {f"mid_mix_supp_{where}": x for where, x in _of_directions(*maps[1]).items()}
        out |= {f"mid_mix_query_{where}": x for where, x in _of_directions(*maps[count + 1]).items()}
        out["mid_cross_state"] = needed[0][1].state.mean(1).transpose(1, 2)
        out["mid_cross_query"] = resized[count + 1].permute(0, 3, 1, 2)
        out["mid_hidden_query"] = hidden[-1]
        out["mid_base_map"] = _base_map(out["mid_base_logits"], seen["ensemble in"][3])
        (distance,) = seen["shot_weights in"]
        out["mid_shot_distance_sorted"] = distance.sort(dim=1).values
        out["mid_shot_weight_by_rank"] = seen["shot_weights"]
        return out

    return collect


def _base_map(base_bnhw: Tensor, own_class_b: Tensor | None) -> Tensor:
    """Return the probability of the base classes but the episode's own, (B, 1, G, G)."""
    probability = base_bnhw.softmax(1)
    if own_class_b is not None:
        for item, channel in enumerate(own_class_b.tolist()):
            probability[item, channel] = 0
    return probability[:, 1:].sum(1, keepdim=True)


WATCHES["hmnet"] = watch
