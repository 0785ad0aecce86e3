"""What a trained encoder is good for: vectors of images kept, searched, grouped, and given to other programs."""
