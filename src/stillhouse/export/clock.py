"""How long a network takes and how much memory its process needs: run in a process of its own, which prints JSON.

`python -m stillhouse.export.clock PATH DEPTH THREADS SECONDS`; a file of ONNX is run without torch in the process.
"""

import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

BATCHES = (1, 32)
WARM_UP = 3
LEAST_CALLS = 10

Pixels = NDArray[np.float32]
Call = Callable[[Pixels], object]


def main(arguments: list[str]) -> None:
    """Print median and 90th percentile in milliseconds per call for each size of batch, and the peak in bytes."""
    path, depth, threads, seconds = Path(arguments[0]), int(arguments[1]), int(arguments[2]), float(arguments[3])
    call, image_size = _onnx(path, threads) if path.suffix == ".onnx" else _torch(path, depth, threads)
    random = np.random.default_rng(0)
    milliseconds = {}
    for batch in BATCHES:
        images = random.random((batch, 3, image_size, image_size), dtype=np.float32)
        median, late = np.percentile(_times(call, images, seconds), (50, 90))
        milliseconds[str(batch)] = {"median": median, "p90": late}
    print(json.dumps({"milliseconds": milliseconds, "peak_bytes": peak_bytes()}))


def peak_bytes() -> int:
    """Most memory that this process has held so far, without what the process that started it held."""
    status = Path("/proc/self/status")
    if status.exists():
        lines = (line.split() for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return 1024 * int(next(lines)[1])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes, on a Mac


def _times(call: Call, images: Pixels, seconds: float) -> list[float]:
    """Milliseconds of each call, for some time and at least a few calls."""
    for _ in range(WARM_UP):
        call(images)
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < LEAST_CALLS or time.perf_counter() < end:
        start = time.perf_counter()
        call(images)
        times.append(1e3 * (time.perf_counter() - start))
    return times


def _onnx(path: Path, threads: int) -> tuple[Call, int]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    (entry,) = session.get_inputs()
    return lambda images: session.run(None, {entry.name: images}), int(entry.shape[2])


def _torch(path: Path, depth: int, threads: int) -> tuple[Call, int]:
    import torch

    from stillhouse.export.exits import Exits
    from stillhouse.export.original import open_original
    from stillhouse.export.running import open_runner

    torch.set_num_threads(threads)
    if depth:
        network = Exits(open_original(path).encoder, (depth,))

        def call(images: Pixels) -> object:
            with torch.inference_mode():
                return network(torch.from_numpy(images))

        return call, network.encoder.image_size
    runner = open_runner(path, threads)
    return lambda images: runner.call(torch.from_numpy(images)), runner.image_size


if __name__ == "__main__":
    main(sys.argv[1:])
