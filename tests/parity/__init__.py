"""The tensors of the measured cases, read from our networks by hooks on their modules: one module per method.

``METHODS[model].watch`` hangs hooks on a network; ``METHODS[model].collect`` names everything after its forward pass.
"""

from tests.parity import bam, dcama, hdmnet, hsnet, sccan, ssp, symnet

METHODS = {"bam": bam, "dcama": dcama, "hdmnet": hdmnet, "hsnet": hsnet, "sccan": sccan, "ssp": ssp, "symnet": symnet}
