"""Vectors in a parquet file: the evaluation's own, in order, in small groups, all or nothing."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from stillhouse import __version__
from stillhouse.embeddings import file as module
from stillhouse.embeddings.file import EmbeddingsFile, embed
from stillhouse.embeddings.reader import Part, Reader, open_reader
from stillhouse.errors import SettingsError
from stillhouse.evaluation.features import extract
from tests.embeddings.conftest import picture


def test_rows_are_the_vectors_of_the_evaluation(reader: Reader, pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "x.parquet"
    written = embed(reader, str(pictures), out)
    table, store = pq.read_table(out), reader.open(str(pictures))
    expected = extract(reader.encoder, store).blocks[-1].numpy()
    assert (written.images, written.skipped) == (24, 0)
    assert table["id"].to_pylist() == list(store.ids)
    assert table["label"].to_pylist() == ["a"] * 12 + ["b"] * 12
    np.testing.assert_allclose(np.stack(table["embedding"].to_numpy()), expected, rtol=1e-5, atol=1e-6)
    assert table.schema.field("embedding").type.list_size == reader.dim
    assert not written.quarantine.exists()
    assert [path.name for path in out.parent.iterdir()] == ["x.parquet"]


def test_the_schema_says_how_they_were_made(
    reader: Reader, pictures: Path, encoder_folder: Path, tmp_path: Path
) -> None:
    embed(reader, str(pictures), tmp_path / "x.parquet")
    about = json.loads(pq.read_schema(tmp_path / "x.parquet").metadata[b"stillhouse"])
    card = json.loads((encoder_folder / "encoder" / "card.json").read_text())
    assert about["encoder_sha256"] == card["sha256"]
    assert (about["dim"], about["exit"], about["stillhouse"]) == (reader.dim, 2, __version__)
    assert about["preprocessing"]["image_size"] == about["preprocessing"]["store_size"] == 16


def test_an_exit_gives_the_vectors_of_its_block(encoder_folder: Path, pictures: Path, tmp_path: Path) -> None:
    first = open_reader(encoder_folder, 1, device="cpu")
    embed(first, str(pictures), tmp_path / "x.parquet")
    found = torch.cat([part.vectors for part in EmbeddingsFile(tmp_path / "x.parquet").parts()])
    torch.testing.assert_close(found, extract(first.encoder, first.open(str(pictures))).blocks[0])


def test_float16_is_half_as_large_and_nearly_the_same(reader: Reader, pictures: Path, tmp_path: Path) -> None:
    embed(reader, str(pictures), tmp_path / "x.parquet")
    embed(reader, str(pictures), tmp_path / "y.parquet", dtype="float16")
    assert pq.read_schema(tmp_path / "y.parquet").field("embedding").type.value_type.bit_width == 16
    one, other = (next(iter(EmbeddingsFile(tmp_path / name).parts())) for name in ("x.parquet", "y.parquet"))
    torch.testing.assert_close(other.vectors, one.vectors, rtol=1e-3, atol=1e-3)
    assert not torch.equal(other.vectors, one.vectors)


def test_float16_refuses_what_it_cannot_hold(
    reader: Reader, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = reader.parts
    store = reader.open(str(pictures))
    huge = [Part(part.rows, part.ids, part.vectors * 1e6, part.labels) for part in parts(store)]
    monkeypatch.setattr(Reader, "parts", lambda *_: iter(huge))
    with pytest.raises(SettingsError, match=r"--dtype float16: a value of .* choose float32"):
        embed(reader, str(pictures), tmp_path / "x.parquet", dtype="float16")
    assert not list(tmp_path.iterdir())


def test_row_groups_are_written_while_images_are_read(
    reader: Reader, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is held is one group, whatever the number of images."""
    monkeypatch.setattr(module, "GROUP_ROWS", 5)
    store = reader.open(str(pictures))
    whole = next(iter(reader.parts(store)))
    cuts = [slice(at, at + 3) for at in range(0, 24, 3)]
    pieces = [Part(whole.rows[cut], whole.ids[cut], whole.vectors[cut], whole.labels[cut]) for cut in cuts]
    monkeypatch.setattr(Reader, "parts", lambda *_: iter(pieces))
    embed(reader, str(pictures), tmp_path / "x.parquet")
    assert pq.ParquetFile(tmp_path / "x.parquet").num_row_groups == 4
    parts = list(EmbeddingsFile(tmp_path / "x.parquet").parts())
    assert [part.rows for part in parts] == [[*range(at, at + 6)] for at in range(0, 24, 6)]
    assert [id_ for part in parts for id_ in part.ids] == whole.ids


def test_broken_images_are_listed_and_are_no_rows(reader: Reader, pictures: Path, tmp_path: Path) -> None:
    shutil.copytree(pictures, tmp_path / "data")
    (tmp_path / "data/a/03.png").write_bytes(b"no picture")
    (tmp_path / "data/b/00.png").write_bytes(b"")
    written = embed(reader, str(tmp_path / "data"), tmp_path / "x.parquet")
    ids = pq.read_table(tmp_path / "x.parquet")["id"].to_pylist()
    assert (written.images, written.skipped) == (len(ids), 2) == (22, 2)
    assert not {"a/03.png", "b/00.png"} & set(ids)
    assert written.quarantine.name == "x.parquet.quarantine.txt"
    assert [line.split("\t")[0] for line in written.quarantine.read_text().splitlines()] == ["a/03.png", "b/00.png"]


def test_one_image_has_one_vector_in_every_collection(reader: Reader, pictures: Path, tmp_path: Path) -> None:
    """Beside large pictures, small ones are prepared as they were alone."""
    from PIL import Image

    (tmp_path / "mixed").mkdir()
    Image.fromarray(picture(3)).save(tmp_path / "mixed" / "small.png")
    Image.fromarray(picture(3)).resize((300, 200)).save(tmp_path / "mixed" / "large.png")
    mixed = next(iter(reader.parts(reader.open(str(tmp_path / "mixed")))))
    alone = reader.read_pixels(reader.read_file(pictures / "a" / "03.png"))[0]
    torch.testing.assert_close(mixed.vectors[mixed.ids.index("small.png")], alone)


SLOW = """
import time
from stillhouse.embeddings.reader import Reader
parts = Reader.parts
def slowly(self, store, progress):
    for part in parts(self, store, progress):
        yield part
        print("read", flush=True)
        time.sleep(60)
Reader.parts = slowly
from stillhouse.cli.main import main
main()
"""


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_killed_in_the_middle_nothing_is_there_by_that_name(
    encoder_folder: Path, pictures: Path, tmp_path: Path, number: signal.Signals
) -> None:
    words = ["embed", str(encoder_folder), "--data", str(pictures), "--out", str(tmp_path / "x.parquet")]
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW, *words, "--set=data.workers=1"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert process.stdout
    assert process.stdout.readline() == "read\n"
    time.sleep(0.05)
    process.send_signal(number)
    _, told = process.communicate(timeout=30)
    assert process.returncode == (130 if number == signal.SIGTERM else -signal.SIGKILL)
    assert "Traceback" not in told
    left = [path.name for path in tmp_path.iterdir()]
    assert not [name for name in left if not name.startswith(".")]
    assert number == signal.SIGKILL or not left
