"""Parts of several methods: losses, prototypes, decoders, 4D convolution, base learner, the use of the encoder."""
