"""Training: the loop, the optimizers, the checkpoints and the watch."""
