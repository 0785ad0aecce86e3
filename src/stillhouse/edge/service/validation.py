"""Whether a file that came back holds the tensors of the clone, and nothing else.

No byte of it is executed: safetensors is a table of names, types and places, read by a parser that checks every bound.
"""

from pathlib import Path

from safetensors import SafetensorError, safe_open

from stillhouse.edge.lesson import State
from stillhouse.edge.structure import misfit


class MalformedReturnError(Exception):
    """No honest device sends such a file; the message says what is wrong with it."""


def read_return(path: Path, base: State) -> State:
    """The tensors of a return, in the order of the clone it was made from.

    Args:
        path: a file that somebody sent.
        base: the clone; the return has its names, shapes and types.

    Raises:
        MalformedReturnError: it is not safetensors, tells more than tensors, misses one or has one more, or one has
            another shape or type or values that cannot be.
    """
    try:
        with safe_open(path, framework="pt") as file:
            if (file.metadata() or {"format": "pt"}) != {"format": "pt"}:
                raise MalformedReturnError("tells more than tensors")
            odd = sorted(set(file.keys()) ^ set(base))
            if odd:
                raise MalformedReturnError(f"{odd[0][:80]!r}: {'missing' if odd[0] in base else 'not in the clone'}")
            state = {name: file.get_tensor(name) for name in base}
    except (SafetensorError, OSError, ValueError, RuntimeError, AttributeError, KeyError) as error:
        raise MalformedReturnError(f"not safetensors ({str(error)[:80]})") from error
    for name, value in state.items():
        if problem := misfit(name, value, base[name]):
            raise MalformedReturnError(f"{name}: {problem}")
    return state
