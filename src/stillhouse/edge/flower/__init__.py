"""The same core and the same clones for a Flower federation; whatever knows Flower is in `server` and `client`."""
