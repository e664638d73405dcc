"""Steps beyond Sym-Net's paper, all off in the published method."""
