"""How good is an encoder? Frozen vectors of every depth, k-NN, linear probe, alignment, and baselines beside them."""
