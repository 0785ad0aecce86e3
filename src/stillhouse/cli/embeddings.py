"""`stillhouse embed`, `search`, `dups`, `cluster`: words to calls of the embeddings room."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stillhouse.errors import SettingsError

if TYPE_CHECKING:
    from stillhouse.data.store import DataConfig

Encoder = Annotated[Path, typer.Argument(help="A run directory, or a folder with an encoder.")]
Data = Annotated[str, typer.Option("--data", help="Images: as for `stillhouse train`.")]
Exit = Annotated[int, typer.Option("--exit", help="Block whose vectors are used, from 1; 0 is the last.")]
Force = Annotated[bool, typer.Option("--force", help="Replace a file that is there.")]
Settings = Annotated[list[str], typer.Option("--set", help="A setting of data, as data.limit=1000; may be repeated.")]
Seed = Annotated[int, typer.Option("--seed", help="Of what is drawn at random.", min=0, max=2**32 - 1)]


def embed(
    encoder: Encoder,
    data: Data,
    out: Annotated[Path, typer.Option("--out", help="File to write, ending in .parquet.", metavar="FILE")],
    exit_: Exit = 0,
    dtype: Annotated[str, typer.Option("--dtype", help="Of the numbers: float32 or float16.")] = "float32",
    force: Force = False,
    settings: Settings = [],  # noqa: B006 (typer copies)
) -> None:
    """Vectors of images as a parquet file.

    Columns: id, embedding, and label where there are any.
    """
    from stillhouse.cli.findings import say
    from stillhouse.cli.terminal import working
    from stillhouse.embeddings.file import embed as write
    from stillhouse.embeddings.output import claim
    from stillhouse.embeddings.reader import open_reader

    if dtype not in ("float32", "float16"):
        raise SettingsError(f"--dtype {dtype}: no such numbers here; choose float32 or float16")
    claim(out, (".parquet",), force=force)
    reader = open_reader(encoder, exit_)
    with working("embedding") as told:
        config = _data(settings, cache="none")
        written = write(
            reader, data, out, dtype="float16" if dtype == "float16" else "float32", config=config,
            progress=lambda share: told("reading images", share),
        )  # fmt: skip
    if written.skipped:
        say(f"{written.skipped:,} images cannot be read: {written.quarantine}")
    say(f"written: {out}, {written.images:,} images, {reader.dim} numbers each")


def search(
    where: Annotated[
        Path, typer.Argument(help="A run directory, or a file of `stillhouse embed`.", metavar="DIR_OR_EMBEDDINGS")
    ],
    image: Annotated[str, typer.Option("--image", help="Id of one of the images, or path of an image file.")],
    data: Annotated[str, typer.Option("--data", help="Images to search; for a file, only to show them.")] = "",
    top: Annotated[int, typer.Option("--top", help="How many are wanted.")] = 10,
    out: Annotated[str, typer.Option("--out", help="Page to write, ending in .html.", metavar="FILE")] = "",
    encoder: Annotated[
        str, typer.Option("--encoder", help="With a file: the run that made it, for an image that is not in it.")
    ] = "",
    exit_: Exit = 0,
    force: Force = False,
    settings: Settings = [],  # noqa: B006 (typer copies)
) -> None:
    """The images most like one image.

    Exact, by the cosine of their vectors, as a table or a page with pictures.
    """
    from stillhouse.cli.findings import neighbors_page, neighbors_table, say
    from stillhouse.cli.terminal import working
    from stillhouse.data.store import open_store
    from stillhouse.embeddings.file import EmbeddingsFile
    from stillhouse.embeddings.output import claim
    from stillhouse.embeddings.reader import open_reader
    from stillhouse.embeddings.search import search_file, search_images

    page = claim(Path(out), (".html",), force=force) if out else None
    is_file = where.is_file() or where.suffix == ".parquet"
    if not data and (page or not is_file):
        raise SettingsError("--data: no images named; say where they are" + " to show them" * is_file)
    if encoder and not is_file:
        raise SettingsError("--encoder: belongs to a file of embeddings; a run has its own, leave it out")
    if is_file and not page and (data or settings):
        raise SettingsError(
            "--data: what is searched are the rows of the file; give --out to show them, or leave it out"
        )
    with working("searching") as told:
        if is_file:
            file = EmbeddingsFile(where)
            made = int(file.about["exit"])
            if exit_ not in (0, made):
                raise SettingsError(f"--exit {exit_}: {where} was made at exit {made}; leave --exit out")
            reader = open_reader(encoder, made) if encoder else None
            query, found = search_file(file, reader, image, top)
            store = open_store(data, _data(settings), file.store_size) if page else None
        else:
            reader = open_reader(where, exit_)
            store = reader.open(data, _data(settings))
            query, found = search_images(reader, store, image, top, lambda share: told("reading images", share))
    if page and store:
        neighbors_page(page, query, found, store)
        say(f"written: {page}")
    else:
        neighbors_table(query, found)


def dups(
    encoder: Encoder,
    data: Data,
    threshold: Annotated[
        str,
        typer.Option("--threshold", help="Cosine from which on pixels are compared; auto asks the encoder."),
    ] = "auto",
    out: Annotated[str, typer.Option("--out", help="File to write, ending in .csv or .html.", metavar="FILE")] = "",
    exit_: Exit = 0,
    force: Force = False,
    seed: Seed = 0,
    settings: Settings = [],  # noqa: B006 (typer copies)
) -> None:
    """Images that show the same picture.

    In groups: found by their vectors, confirmed by their pixels.
    """
    from stillhouse.cli.findings import duplicates_csv, duplicates_page, duplicates_table, say
    from stillhouse.cli.terminal import working
    from stillhouse.data.sources import open_source
    from stillhouse.embeddings.duplicates import find_duplicates
    from stillhouse.embeddings.output import claim
    from stillhouse.embeddings.reader import open_reader

    path = claim(Path(out), (".csv", ".html"), force=force) if out else None
    least = None if threshold == "auto" else _number("--threshold", threshold, "auto or a cosine such as 0.97")
    reader = open_reader(encoder, exit_)
    with working("finding duplicates") as told:
        store = reader.open(data, _data(settings))
        found = find_duplicates(
            reader, store, open_source(data), threshold=least, seed=seed,
            progress=lambda share: told("reading images", share),
        )  # fmt: skip
    duplicates_table(found)
    if path:
        if path.suffix.lower() == ".csv":
            duplicates_csv(path, found)
        else:
            duplicates_page(path, found, store, data)
        say(f"written: {path}")


def cluster(
    encoder: Encoder,
    data: Data,
    clusters: Annotated[str, typer.Option("--clusters", help="How many; auto takes the best separated number.")],
    out: Annotated[str, typer.Option("--out", help="File to write, ending in .csv or .html.", metavar="FILE")] = "",
    exit_: Exit = 0,
    force: Force = False,
    seed: Seed = 0,
    settings: Settings = [],  # noqa: B006 (typer copies)
) -> None:
    """Sort images into clusters.

    By k-means on their vectors.
    """
    from stillhouse.cli.findings import clusters_csv, clusters_page, clusters_table, say
    from stillhouse.cli.terminal import working
    from stillhouse.embeddings.clusters import cluster_images
    from stillhouse.embeddings.output import claim
    from stillhouse.embeddings.reader import open_reader

    path = claim(Path(out), (".csv", ".html"), force=force) if out else None
    wanted = 0 if clusters == "auto" else int(_number("--clusters", clusters, "auto or a whole number", whole=True))
    if wanted < 1 and clusters != "auto":
        raise SettingsError(f"--clusters {clusters}: nothing would be told apart; ask for 2 or more, or for auto")
    reader = open_reader(encoder, exit_)
    with working("clustering") as told:
        store = reader.open(data, _data(settings))
        found = cluster_images(reader, store, wanted, seed=seed, progress=lambda share: told("reading images", share))
    clusters_table(found)
    if path:
        if path.suffix.lower() == ".csv":
            clusters_csv(path, found)
        else:
            clusters_page(path, found, store, data)
        say(f"written: {path}")


def _number(name: str, text: str, wanted: str, *, whole: bool = False) -> float:
    try:
        return int(text) if whole else float(text)
    except ValueError as error:
        raise SettingsError(f"{name} {text}: not a number; give {wanted}") from error


def _data(settings: list[str], cache: str = "auto") -> "DataConfig":
    """What `--set data.x=y` says of the images."""
    from stillhouse.config import build, parse_assignment
    from stillhouse.data.store import DataConfig

    table = {"cache": cache}
    for name, value in map(parse_assignment, settings):
        group, _, key = name.partition(".")
        if group != "data" or key in ("uri", "store_size"):
            raise SettingsError(f"--set {name}: only data.* can change here, and not where or how large images are")
        table[key] = value
    return build(DataConfig, table, "data.")


COMMANDS = (embed, search, dups, cluster)
