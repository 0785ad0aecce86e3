"""What of a method travels between the core and its clones; said in `methods.travel`, where runs begin from it."""

from stillhouse.methods.travel import STAYING, pack, travelling_names, unpack

__all__ = ["STAYING", "pack", "travelling_names", "unpack"]
