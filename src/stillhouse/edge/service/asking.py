"""Questions of the lesson as a file that devices fetch, and answers to them as they come back."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from stillhouse.edge.lesson import Terms
from stillhouse.edge.questions import ANSWERS, QUESTIONS
from stillhouse.edge.service.refusals import Conflict
from stillhouse.files import write_atomically


@dataclass(frozen=True)
class Asking:
    """What a lease says of the lesson's terms."""

    path: Path
    """Of the questions' file, where there is one."""
    largest_change: float
    digest: str = ""
    """SHA-256 of the questions' file; empty where nothing is asked."""
    size: int = 0
    """Its bytes."""
    count: int = 0
    """How many questions there are."""

    @classmethod
    def lay_out(cls, path: Path, terms: Terms) -> "Asking":
        """Write the questions, the same bytes after every start; `RunError` where the disk refuses."""
        if terms.questions is None:
            return cls(path, terms.largest_change)
        content = safetensors.torch.save({QUESTIONS: terms.questions.contiguous()})
        write_atomically(path, content)
        digest = hashlib.sha256(content).hexdigest()
        return cls(path, terms.largest_change, digest, len(content), len(terms.questions))

    def file(self) -> Path:
        """The questions, for reading; `Conflict` where there are none."""
        if not self.digest:
            raise Conflict("this core asks no questions")
        return self.path


def read_answers(path: Path) -> Tensor | None:
    """The one tensor of a return that holds answers; None where it is no such file. What is in it is not looked at."""
    try:
        with safe_open(path, framework="pt") as file:
            plain = (file.metadata() or {"format": "pt"}) == {"format": "pt"}
            answers: Tensor | None = file.get_tensor(ANSWERS) if plain and list(file.keys()) == [ANSWERS] else None
            return answers
    except (SafetensorError, OSError, ValueError, RuntimeError, AttributeError, KeyError):
        return None
