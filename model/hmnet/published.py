"""HMNet's published tensor names."""

from model.published import ASPP_DECODER, ENCODER, ENSEMBLE, FUSIONS, PROJECTIONS, PYRAMID_BASE_LEARNER, Layout

BLOCK, OUR_BLOCK = r"mamba\.layers\.0\.blocks\.(\d+)", r"scan.blocks.\1"
SCAN = rf"{BLOCK}\.self_attention"
CORE = {
    "x_proj_weight": "project",
    "dt_projs_weight": "step",
    "dt_projs_bias": "step_bias",
    "A_logs": "log_decay",
    "Ds": "skip",
}


def _branch_names(branch: str) -> list[tuple[str, str]]:
    """Return the renames of a block's parts of the query or of the support."""
    letter = branch[0]
    ours = f"{OUR_BLOCK}.{branch}"
    return [
        (rf"{SCAN}\.in_proj_{letter}\.(.*)", rf"{ours}.enter.\2"),
        (rf"{SCAN}\.conv2d_{letter}\.(.*)", rf"{ours}.conv.\2"),
        (rf"{SCAN}\.out_proj_{letter}\.(.*)", rf"{ours}.leave.\2"),
        (rf"{BLOCK}\.mlp_{letter}\.fc1\.(.*)", rf"{ours}.mlp.0.\2"),
        (rf"{BLOCK}\.mlp_{letter}\.fc2\.(.*)", rf"{ours}.mlp.2.\2"),
    ]


LAYOUT = Layout(
    "HMNet",
    ("down_supp.0.weight", "init_merge_supp.0.weight", "mamba.norm.weight", "base_learner.2.weight"),
    (
        *(*ENCODER, *PROJECTIONS, *ENSEMBLE, *ASPP_DECODER, *PYRAMID_BASE_LEARNER, *FUSIONS),
        (r"base_learner\.2\.(.*)", r"base_learner.classify.4.\1"),
        (rf"{BLOCK}\.ln_([12])\.(.*)", rf"{OUR_BLOCK}.norm\2.\3"),
        (rf"{SCAN}\.out_norm\.(.*)", rf"{OUR_BLOCK}.core_norm.\2"),
        *((rf"{SCAN}\.{theirs}", f"{OUR_BLOCK}.core.{ours}") for theirs, ours in CORE.items()),
        *(*_branch_names("query"), *_branch_names("support")),
        (r"mamba\.norm\.(.*)", r"scan.norm.\1"),
    ),
)
