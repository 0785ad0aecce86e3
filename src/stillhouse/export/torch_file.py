"""torch: an exported program (.pt2) that plain torch loads, with normalization inside and any number of images."""

import io
from pathlib import Path

import torch

from stillhouse.errors import RunError, first_line
from stillhouse.export.exits import Exits
from stillhouse.files import write_atomically

FILE = "model.pt2"


def write_torch(network: Exits, path: Path) -> None:
    """Write the network as one file, without the paths of the source files it came from.

    Raises:
        RunError: the network cannot be traced, or the disk refuses.
    """
    packed = io.BytesIO()
    try:
        program = network.traced()
        for node in program.graph.nodes:
            for origin in ("stack_trace", "nn_module_stack", "source_fn_stack", "from_node"):
                node.meta.pop(origin, None)
        torch.export.save(program, packed)
    except Exception as error:  # whatever a network makes the tracer raise
        told = first_line(error)
        raise RunError(f"export: this network cannot be traced ({told}); choose another --to") from error
    write_atomically(path, packed.getvalue())


def open_torch(path: Path) -> torch.nn.Module:
    """The program as a module.

    Raises:
        RunError: the file is missing or damaged.
    """
    try:
        return torch.export.load(io.BytesIO(path.read_bytes())).module()
    except OSError as error:
        raise RunError(f"{path}: cannot be read ({error}); check the path") from error
    except Exception as error:  # of zip, JSON and schema alike
        told = first_line(error)
        raise RunError(f"{path}: not an exported program of torch ({told}); export it again") from error
