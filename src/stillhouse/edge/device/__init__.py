"""A device: it borrows clones, lets them learn from its own images, and gives them back."""
