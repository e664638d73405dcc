"""SCCAN's published tensor names."""

from model.published import ASPP_DECODER, FUSIONS, PROJECTIONS, Layout

BLOCK = r"transformer\.layers\.0\.blocks\.(\d+)\."  # in published names
ENCODER_NAMES = (  # published, and ours
    *((rf"backbone\.body\.conv{i + 1}\.(.*)", rf"encoder.layer0.{3 * i}.\1") for i in range(3)),
    *((rf"backbone\.body\.bn{i + 1}\.(.*)", rf"encoder.layer0.{3 * i + 1}.\1") for i in range(3)),
    (r"backbone\.body\.(layer[1-4]\..*)", r"encoder.\1"),
)


def _branch_names(branch: str) -> list[tuple[str, str]]:
    """Return the renames of a block's attention and MLP, of the query or of the support."""
    attention, mlp = rf"{BLOCK}attn_{branch[0]}", rf"{BLOCK}mlp_{branch[0]}"
    block = r"attend.blocks.\1"
    return [
        (rf"{attention}\.q\.(.*)", rf"{block}.attend_{branch}.query.\2"),
        (rf"{attention}\.kv\.(.*)", rf"{block}.attend_{branch}.key_value.\2"),
        (rf"{attention}\.proj\.(.*)", rf"{block}.attend_{branch}.project.\2"),
        (rf"{mlp}\.fc1\.(.*)", rf"{block}.mlp_{branch}.0.\2"),
        (rf"{mlp}\.fc2\.(.*)", rf"{block}.mlp_{branch}.2.\2"),
    ]


LAYOUT = Layout(
    "SCCAN",
    ("down_supp.0.weight", "init_merge_supp.0.weight", "transformer.norm0.weight", "ASPP_meta.layer6_0.0.weight"),
    (
        *(*PROJECTIONS, *ASPP_DECODER, *ENCODER_NAMES, *FUSIONS),
        (rf"{BLOCK}(norm[12]\..*)", r"attend.blocks.\1.\2"),
        *(*_branch_names("query"), *_branch_names("support")),
        (r"transformer\.norm0\.(.*)", r"attend.norm.\1"),
    ),
)
