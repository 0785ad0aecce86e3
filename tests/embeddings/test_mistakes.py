"""What a user can get wrong with `embed`, `search`, `dups`, `cluster`: one message, an exit code, nothing written."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from stillhouse.cli.main import main
from stillhouse.embeddings.file import embed
from stillhouse.embeddings.reader import open_reader
from tests.embeddings.conftest import picture, write_encoder, write_pictures

SETTINGS, DATA, RUN, TRAINING = 2, 3, 4, 5

Say = Callable[..., tuple[str, str]]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with everything that is right, and much that is wrong."""
    root = tmp_path_factory.mktemp("place")
    write_pictures(root / "images")
    for name, seed in (("run", 0), ("other", 1)):
        write_encoder(root / name / "encoder", seed)
    write_encoder(root / "spoilt" / "encoder", spoil=True)
    shutil.copytree(root / "run", root / "damaged")
    (root / "damaged/encoder/model.safetensors").write_bytes(b"not weights")
    (root / "empty").mkdir()
    (root / "bad").mkdir()
    (root / "bad/x.png").write_bytes(b"no picture")
    (root / "broken.png").write_bytes(b"no picture")
    (root / "single").mkdir()
    Image.fromarray(picture(5)).save(root / "single/x.png")
    Image.fromarray(picture(5)).save(root / "query.png")
    (root / "there.parquet").write_bytes(b"somebody's")
    (root / "there.csv").write_bytes(b"somebody's")
    embed(open_reader(root / "run", device="cpu"), str(root / "images"), root / "good.parquet")
    content = (root / "good.parquet").read_bytes()
    (root / "short.parquet").write_bytes(content[: len(content) // 2])
    (root / "nothing.parquet").write_bytes(b"")
    good = pq.read_table(root / "good.parquet")
    values = pa.array([float("nan")] * 64 * len(good), pa.float32())
    spoilt = pa.FixedSizeListArray.from_arrays(values, 64)
    place = good.schema.get_field_index("embedding")
    pq.write_table(good.set_column(place, good.schema.field(place), spoilt), root / "nan.parquet")
    pq.write_table(good.replace_schema_metadata({"stillhouse": '{"dim": 64}'}), root / "untold.parquet")
    pq.write_table(pa.table({"id": ["x"], "embedding": [[1.0]]}), root / "foreign.parquet")
    return root


@pytest.fixture
def say(place: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Say:
    """Run a command there, and insist on its exit code."""
    monkeypatch.chdir(place)
    monkeypatch.setenv("COLUMNS", "80")

    def run(*words: str, code: int = 0) -> tuple[str, str]:
        monkeypatch.setattr(sys, "argv", ["stillhouse", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capfd.readouterr()
        assert (ended.value.code or 0) == code, (out, err)
        return out, err

    return run


MISTAKES = {
    "embed no-run --data images --out x.parquet": (RUN, "no-run: does not exist; name a run directory"),
    "embed query.png --data images --out x.parquet": (RUN, "query.png: is a file; name a run directory"),
    "embed empty --data images --out x.parquet": (RUN, "no encoder found; check the path"),
    "embed damaged --data images --out x.parquet": (RUN, "the encoder cannot be read"),
    "embed spoilt --data images --out x.parquet": (TRAINING, "vectors of 24 images are not finite"),
    "embed run --data nowhere --out x.parquet": (DATA, "'nowhere' does not exist"),
    "embed run --data empty --out x.parquet": (DATA, "no images under 'empty'"),
    "embed run --data bad --out x.parquet": (DATA, "none of the 1 images of 'bad' can be read"),
    "embed run --data images --out x.csv": (SETTINGS, "--out x.csv: cannot be written in that form"),
    "embed run --data images --out there.parquet": (RUN, "there.parquet: is there already; choose another --out"),
    "embed run --data images --out query.png/x.parquet": (RUN, "query.png is a file"),
    "embed run --data images --out /proc/x.parquet": (RUN, "/proc/x.parquet: cannot be written"),
    "embed run --data images --out x.parquet --dtype int8": (SETTINGS, "--dtype int8: no such numbers"),
    "embed run --data images --out x.parquet --exit 9": (SETTINGS, "exit: 9, but the encoder of run has 2 blocks"),
    "embed run --data images --out x.parquet --exit -1": (SETTINGS, "choose 1 to 2"),
    "embed run --data images --out x.parquet --set encoder.name=x": (SETTINGS, "only data.* can change here"),
    "embed run --data images --out x.parquet --set data.limmit=3": (SETTINGS, "did you mean data.limit"),
    "search run --image a/00.png": (SETTINGS, "--data: no images named"),
    "search run --data images --image a/99.png": (DATA, "--image a/99.png: no such id"),
    "search run --data images --image broken.png": (DATA, "'broken.png': cannot be read (not an image"),
    "search run --data images --image empty": (DATA, "'empty': cannot be read (is a directory)"),
    "search run --data images --image a/00.png --top 0": (SETTINGS, "--top 0: nothing would be shown"),
    "search run --data images --image a/00.png --out x.csv": (SETTINGS, "end it in .html"),
    "search spoilt --data images --image query.png": (TRAINING, "not finite"),
    "search short.parquet --image a/00.png": (DATA, "'short.parquet': cannot be read"),
    "search nothing.parquet --image a/00.png": (DATA, "'nothing.parquet': cannot be read"),
    "search absent.parquet --image a/00.png": (DATA, "'absent.parquet': no such file"),
    "search foreign.parquet --image x": (DATA, "does not say which encoder made it"),
    "search untold.parquet --image x": (DATA, "does not say which encoder made it"),
    "search nan.parquet --image a/00.png": (DATA, "row group 0 holds a value that is not finite"),
    "search query.png --image x": (DATA, "'query.png': cannot be read"),
    "search good.parquet --image query.png": (SETTINGS, "add --encoder with the run that made the file"),
    "search good.parquet --image query.png --encoder other": (SETTINGS, "made with encoder_sha256"),
    "search good.parquet --image a/00.png --exit 1": (SETTINGS, "was made at exit 2; leave --exit out"),
    "search good.parquet --image a/00.png --out x.html": (SETTINGS, "--data: no images named"),
    "search good.parquet --image a/00.png --out x.html --data single": (DATA, "name the images that were embedded"),
    "dups run --data images --threshold 1.5": (SETTINGS, "--threshold 1.5: a cosine above 0 and up to 1"),
    "dups run --data images --threshold nan": (SETTINGS, "--threshold nan"),
    "dups run --data images --threshold high": (SETTINGS, "--threshold high: not a number; give auto or a cosine"),
    "dups run --data single": (DATA, "1 image, and duplicates need two"),
    "dups run --data images --out there.csv": (RUN, "add --force to replace it"),
    "dups run --data images --out empty.html/x.txt": (SETTINGS, "end it in .csv or .html"),
    "cluster run --data images --clusters 25": (SETTINGS, "--clusters 25: more than the 24 images; ask for fewer"),
    "cluster run --data images --clusters 1": (SETTINGS, "--clusters 1: nothing would be told apart"),
    "cluster run --data images --clusters 0": (SETTINGS, "--clusters 0: nothing would be told apart"),
    "cluster run --data images --clusters 2.5": (SETTINGS, "--clusters 2.5: not a number; give auto or a whole"),
    "cluster run --data single --clusters auto": (DATA, "too few images to be sorted, 1; name 3 or more"),
}


@pytest.mark.parametrize("command", MISTAKES)
def test_a_mistake_is_one_message_and_leaves_nothing(place: Path, say: Say, command: str) -> None:
    before = sorted(path for path in place.rglob("*"))
    code, told = MISTAKES[command]
    _, error = say(*command.split(), code=code)
    assert error.startswith("error: ")
    assert told in " ".join(error.split())
    assert "Traceback" not in error
    assert sorted(path for path in place.rglob("*")) == before
    assert (place / "there.parquet").read_bytes() == b"somebody's"


def test_force_replaces(place: Path, say: Say) -> None:
    shutil.copy(place / "there.csv", place / "old.csv")
    say("dups", "run", "--data", "images", "--out", "old.csv", "--force")
    assert (place / "old.csv").read_text().startswith("group,id,label,kind,like,cosine,correlation\n")


def test_from_images_to_pages(place: Path, say: Say) -> None:
    out, _ = say("embed", "run", "--data", "images", "--out", "new.parquet", "--set", "data.limit=20")
    assert "new.parquet, 20 images, 64 numbers each" in " ".join(out.split())
    out, _ = say("search", "good.parquet", "--image", "a/00.png", "--top", "3")
    assert [line.split()[0] for line in out.splitlines()[1:]] == ["rank", "1", "2", "3"]
    assert all(len(line) <= 80 for line in out.splitlines())
    say("search", "run", "--data", "images", "--image", "query.png", "--out", "s.html")
    say("cluster", "run", "--data", "images", "--clusters", "2", "--out", "c.html")
    shutil.copytree(place / "images", place / "twice")
    (place / "twice/a/copy.png").write_bytes((place / "images/a/00.png").read_bytes())
    out, _ = say("dups", "run", "--data", "twice", "--out", "d.html")
    assert "1 group among 25 images; 1 image could go (1 the same file)" in out
    for name, pictured in (("s.html", 11), ("c.html", 16), ("d.html", 2)):
        page = (place / name).read_text()
        assert page.count('<img src="data:image/png;base64,') == pictured
        assert "<script" not in page
        assert "http://" not in page
        assert "https://" not in page
    say("cluster", "run", "--data", "images", "--clusters", "3", "--out", "c.csv")
    lines = (place / "c.csv").read_text().splitlines()
    assert lines[0] == "id,cluster,cosine,label"
    assert len(lines) == 25


def test_a_recipe_says_how_images_are_kept(place: Path) -> None:
    """The card alone leaves it to the encoder; 256 for 224."""
    card = json.loads((place / "run/encoder/card.json").read_text())
    assert open_reader(place / "run", device="cpu").store_size == card["encoder"]["image_size"] == 16
