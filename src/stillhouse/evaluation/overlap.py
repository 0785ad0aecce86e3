"""Images that are in both the training and the test set, pixel by pixel."""

import hashlib
from collections.abc import Iterator

from torch import Tensor

from stillhouse.data.store import ImageStore

BATCH_SIZE = 256


def count_shared(train: ImageStore, train_rows: Tensor, test: ImageStore, test_rows: Tensor) -> int:
    """How many test images (rows of `test`, int64 `[M]`) are also training images (rows of `train`, `[N]`)."""
    known = set(fingerprints(train, train_rows))
    return sum(fingerprint in known for fingerprint in fingerprints(test, test_rows))


def fingerprints(store: ImageStore, rows: Tensor) -> Iterator[bytes]:
    """A hash of the pixels of each image, as they are stored; rows of `store`, int64 `[N]`."""
    for part in rows.split(BATCH_SIZE):
        for image in store.gather(part).cpu().numpy():
            yield hashlib.blake2b(image.tobytes(), digest_size=16).digest()
