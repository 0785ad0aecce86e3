"""The atlas of a run, written beside its evaluation for the page to draw."""

from collections.abc import Callable

from stillhouse.data.store import ImageStore
from stillhouse.evaluation.atlas import draw
from stillhouse.evaluation.config import EvaluationConfig
from stillhouse.evaluation.results import Evaluation
from stillhouse.evaluation.task import find_task
from stillhouse.files import write_atomically
from stillhouse.networks.encoder import Encoder
from stillhouse.recipes.directory import Run


def draw_atlas(
    run: Run,
    encoder: Encoder,
    train: ImageStore,
    test: ImageStore,
    evaluation: Evaluation,
    config: EvaluationConfig,
    progress: Callable[[str, float], None],
) -> None:
    """Write `atlas.npz`, or take away that of an earlier evaluation where none is wanted or none can be drawn.

    Args:
        run: where to.
        encoder: what was judged.
        train: images it was judged by; only their classes matter here.
        test: images to draw.
        evaluation: what was found, for the depth that did best.
        config: how many images, and the seed.
        progress: told what is going on.

    Raises:
        RunError: it cannot be written.
    """
    run.atlas_file.unlink(missing_ok=True)
    if not config.atlas_images:
        return
    chosen = evaluation.best()
    atlases = draw(
        encoder,
        test,
        find_task(train, test, config.seed),
        best=chosen.block if chosen else len(encoder.block_dims),
        images=config.atlas_images,
        seed=config.seed,
        batch_size=config.batch_size,
        progress=lambda share: progress("drawing maps", share),
    )
    for atlas in atlases:
        write_atomically(run.atlas_file, atlas.to_bytes())
