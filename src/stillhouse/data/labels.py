"""What is known about the classes of stored images, for the few methods that learn from it.

Letters: N images, C classes.
"""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Labels:
    """The class of every image of a store."""

    of: Tensor
    """Int64 `[N]` in [0, C), -1 where unknown; addressed by `Batch.index`."""
    classes: tuple[str, ...]
    """Names of the C classes."""
