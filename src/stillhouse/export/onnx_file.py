"""ONNX: one file that ONNX Runtime and many others run, with normalization inside and any number of images at once."""

import logging
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stillhouse.errors import RunError, SettingsError, first_line
from stillhouse.export.agreement import Precision
from stillhouse.export.exits import INPUT, Exits
from stillhouse.files import write_atomically

OPSET = 18
"""Version of the operators: the oldest with all that is needed, which most runtimes of the last years know."""
FILE = "model.onnx"
CALIBRATION_BATCH = 32
QUANTIZED = ("Conv", "Gemm", "MatMul")
"""Operators whose weights and inputs become int8; the cheap ones between them stay float32."""


def write_onnx(network: Exits, path: Path, precision: Precision, calibration: Tensor) -> None:
    """Write the network as one checked file.

    Args:
        network: on the CPU.
        path: file to make.
        precision: `float16` has weights and activations in 16 bits; `int8` has products in 8 bits, weights scaled
            channel by channel, activations by what `calibration` shows.
        calibration: images `[N, 3, S, S]` in [0, 1]; only read for `int8`.

    Raises:
        SettingsError: what writes ONNX is not installed.
        RunError: the network cannot be written as ONNX, or the disk refuses.
    """
    onnx, _ = packages()
    try:
        model = _as_onnx(network.halved() if precision == "float16" else network)
        if precision == "int8":
            model = _quantized(model, calibration)
        onnx.checker.check_model(model, full_check=True)
    except OSError:
        raise
    except Exception as error:  # of three libraries, whatever a network makes them raise
        told = first_line(error)
        raise RunError(
            f"export: this network cannot be written as ONNX in {precision} ({told}); choose --to torch"
        ) from error
    write_atomically(path, model.SerializeToString())


def open_onnx(path: Path, threads: int = 0) -> Any:
    """A session of ONNX Runtime on the CPU that says nothing but errors.

    Args:
        path: an .onnx file.
        threads: that it may use; 0 leaves the choice to it.

    Raises:
        SettingsError: ONNX Runtime is not installed.
        RunError: the file is missing, damaged, or not one that takes images as ours do.
    """
    _, runtime = packages()
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads
    try:
        session = runtime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
    except OSError as error:
        raise RunError(f"{path}: cannot be read ({error}); check the path") from error
    except Exception as error:  # of a dozen unrelated classes
        told = first_line(error)
        raise RunError(f"{path}: not an ONNX file that ONNX Runtime can run ({told}); export it again") from error
    inputs = session.get_inputs()
    takes_images = [(i.name, i.type, len(i.shape), i.shape[1:2]) for i in inputs] == [(INPUT, "tensor(float)", 4, [3])]
    if not takes_images or not isinstance(inputs[0].shape[2], int):
        raise RunError(
            f"{path}: not an export of stillhouse: its inputs are "
            f"{', '.join(f'{i.name} {i.shape}' for i in inputs) or 'none'}, not {INPUT} [batch, 3, S, S]"
        )
    return session


def packages() -> tuple[Any, Any]:
    """onnx and onnxruntime; `SettingsError` where they, or onnxscript, are not installed."""
    try:
        import onnx
        import onnxruntime
        import onnxscript  # noqa: F401 (torch needs it)
    except ImportError as error:
        raise SettingsError(f"export: {error.name} is not installed; pip install 'stillhouse[onnx]'") from error
    return onnx, onnxruntime


def _as_onnx(network: Exits) -> Any:
    """The traced network in operators of ONNX, without the paths of the source files it came from."""
    with torch.no_grad(), _quiet():
        program = torch.onnx.export(
            network.traced(), dynamo=True, opset_version=OPSET, input_names=[INPUT],
            output_names=list(network.names), external_data=False, verbose=False,
        )  # fmt: skip
    assert program is not None
    model = program.model_proto
    graph = model.graph
    del graph.value_info[:]
    for thing in (model, graph, *graph.node, *graph.input, *graph.output, *graph.initializer):
        del thing.metadata_props[:]
    for function in model.functions:
        for thing in (function, *function.node):
            del thing.metadata_props[:]
    for value in (*graph.input, *graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    model.producer_name = "stillhouse"
    return model


def _quantized(model: Any, calibration: Tensor) -> Any:
    """The same graph with weights in int8 and a scale at every input of a product."""
    import onnx
    from onnxruntime import quantization

    with tempfile.TemporaryDirectory() as folder, _quiet():
        plain, prepared, result = (Path(folder) / f"{step}.onnx" for step in ("plain", "prepared", "int8"))
        onnx.save(model, plain)
        quantization.quant_pre_process(plain, prepared, skip_symbolic_shape=True)
        quantization.quantize_static(
            prepared, result, _Batches(calibration), per_channel=True, op_types_to_quantize=list(QUANTIZED),
            quant_format=quantization.QuantFormat.QDQ, activation_type=quantization.QuantType.QInt8,
            weight_type=quantization.QuantType.QInt8,
        )  # fmt: skip
        return onnx.load(result)


class _Batches:
    """Calibration images in the way that ONNX Runtime asks for them."""

    def __init__(self, images: Tensor) -> None:
        self._chunks = iter(images.split(CALIBRATION_BATCH))

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        chunk = next(self._chunks, None)
        return None if chunk is None else {INPUT: chunk.numpy()}


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep notes of torch and of the quantizer, which no user can act on, off the terminal; errors are raised."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=DeprecationWarning, module=r"(torch|onnxscript|onnx_ir|onnx)\b")
            yield
    finally:
        logging.disable(disabled)
