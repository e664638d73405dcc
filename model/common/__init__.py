"""Parts that several methods share: tensor operations, losses, prototypes, heads, the image encoder's use."""
