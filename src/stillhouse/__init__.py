"""stillhouse trains small vision encoders from unlabelled images and tells how good they are at every depth.

The names below are imported on first use, so that `import stillhouse` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stillhouse.embeddings.embedder import Embedder
    from stillhouse.networks.classifier import Classifier, load_classifier
    from stillhouse.networks.encoder import Encoder, Features
    from stillhouse.recipes.directory import Run, load
    from stillhouse.recipes.exporting import export_encoder
    from stillhouse.recipes.judging import evaluate
    from stillhouse.recipes.pipeline import run_pipeline
    from stillhouse.recipes.run import resume, train

__version__ = "0.1.0"
__all__ = [
    "Classifier",
    "Embedder",
    "Encoder",
    "Features",
    "Run",
    "__version__",
    "evaluate",
    "export_encoder",
    "load",
    "load_classifier",
    "resume",
    "run_pipeline",
    "train",
]

_HOMES = {
    "Classifier": "networks.classifier",
    "Embedder": "embeddings.embedder",
    "Encoder": "networks.encoder",
    "Features": "networks.encoder",
    "Run": "recipes.directory",
    "evaluate": "recipes.judging",
    "export_encoder": "recipes.exporting",
    "load": "recipes.directory",
    "load_classifier": "networks.classifier",
    "resume": "recipes.run",
    "run_pipeline": "recipes.pipeline",
    "train": "recipes.run",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'stillhouse' has no attribute {name!r}")
    return getattr(import_module(f"stillhouse.{_HOMES[name]}"), name)
