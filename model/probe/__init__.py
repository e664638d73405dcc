"""Linear probe: a logistic regression on a frozen encoder's cells, fitted to the supports of an episode."""
