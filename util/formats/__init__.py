"""How are annotations stored? One module for each format: reading into one form, and writing of predictions."""
