"""Answers instead of weights: what a trained clone says about the server's own images, and nothing else, leaves."""

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from stillhouse.edge.device.limits import Limits, OutOfMemory, memory_limit
from stillhouse.edge.lesson import State
from stillhouse.edge.questions import ANSWERS, QUESTIONS, answer
from stillhouse.errors import RunError, SettingsError
from stillhouse.methods.method import Method


def answers_of(trained: Method, path: Path, limits: Limits) -> State:
    """What leaves the device: one row of numbers for every question.

    Args:
        trained: is in evaluation mode afterwards.
        path: file of the questions.
        limits: what may be taken.

    Raises:
        RunError: the file holds no questions for this method.
        SettingsError: there is too little memory.
    """
    try:
        with memory_limit(limits.max_bytes):
            return {ANSWERS: answer(trained.eval(), read_questions(path, trained.encoder.image_size))}
    except OutOfMemory as error:
        raise SettingsError(f"--max-memory: {error}; give more, or the core's questions cannot be answered") from error


def read_questions(path: Path, image_size: int) -> Tensor:
    """Images uint8 `[N, 3, S, S]` of a file that a server sent.

    Raises:
        RunError: it holds something else.
    """
    try:
        found = load_file(path)[QUESTIONS]
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise RunError(f"the core's questions cannot be read ({error}); tell the owner of the server") from error
    if found.dtype != torch.uint8 or not len(found) or found.shape[1:] != (3, image_size, image_size):
        raise RunError(
            f"the core's questions are {found.dtype} {list(found.shape)}, and its clone sees {image_size} px; tell the "
            "owner of the server"
        )
    return found
