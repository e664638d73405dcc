"""Files of weights: what anybody's holds, our checkpoints, the sources of encoders and whole networks, their origin."""
