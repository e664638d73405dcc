"""SSP: self-support matching."""
