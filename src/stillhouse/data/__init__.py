"""Images in, views out: every random choice follows from seed, epoch and index."""
