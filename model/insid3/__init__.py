"""INSID3 (Cuttano et al., CVPR 2026): clusters of a frozen encoder's patches that resemble the supports' object."""
