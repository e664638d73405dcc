"""GF-SAM (Zhang et al., NeurIPS 2024): a graph of SAM's masks around points that DINOv2 finds."""
