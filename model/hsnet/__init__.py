"""HSNet: hypercorrelation squeeze."""
