"""Steps beyond Sym-Net's paper, used by ``SymNetPlus`` alone."""
