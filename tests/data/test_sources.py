"""A URI finds exactly the images it names, with their labels; what is wrong with it is said."""

import gzip
import io
import json
import os
import pickle
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stillhouse.data.decode import BadImage
from stillhouse.data.shards import expand_braces
from stillhouse.data.sources import open_source
from stillhouse.errors import DataError
from tests.data.pictures import png, write_class_folders


def write_parquet(
    path: Path, count: int, labels: Any = None, names: list[str] | None = None, paths: bool = True, group: int = 3
) -> None:
    images = [{"bytes": png(seed), "path": f"{seed}.png" if paths else None} for seed in range(count)]
    columns: dict[str, Any] = {"image": pa.array(images, pa.struct([("bytes", pa.binary()), ("path", pa.string())]))}
    if labels is not None:
        columns["label"] = labels
    table = pa.table(columns)
    if names is not None:
        features = {"info": {"features": {"label": {"names": names, "_type": "ClassLabel"}}}}
        table = table.replace_schema_metadata({"huggingface": json.dumps(features)})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, row_group_size=group)


def write_tar(path: Path, members: dict[str, bytes], mode: str = "w") -> None:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


def test_class_folders_give_labels_in_sorted_order(tmp_path: Path) -> None:
    write_class_folders(tmp_path / "photos", {"dog": 2, "cat/tabby": 1, "cat/black": 1})
    (tmp_path / "photos" / "loose.PNG").write_bytes(png(9))
    (tmp_path / "photos" / "notes").mkdir()
    (tmp_path / "photos" / "notes" / "readme.txt").write_text("no image")
    source = open_source(str(tmp_path / "photos"))
    assert list(source.ids) == ["cat/black/000.png", "cat/tabby/000.png", "dog/000.png", "dog/001.png", "loose.PNG"]
    assert source.labels.tolist() == [0, 0, 1, 1, -1]
    assert source.classes == ("cat", "dog")
    assert source.read(2) == png(0)


def test_flat_folder_has_no_labels(tmp_path: Path) -> None:
    write_class_folders(tmp_path, {"flat": 2})
    source = open_source(f"{tmp_path}/flat")
    assert (source.labels.tolist(), source.classes) == ([-1, -1], ())


def test_split_of_a_folder_is_its_subfolder(tmp_path: Path) -> None:
    write_class_folders(tmp_path, {"train/a": 2, "train/b": 1, "val/a": 1})
    assert open_source(f"{tmp_path}#train").classes == ("a", "b")
    assert len(open_source(f"{tmp_path}#val")) == 1
    with pytest.raises(DataError, match=r"no split 'trian'.*nearest: 'train'"):
        open_source(f"{tmp_path}#trian")
    with pytest.raises(DataError, match=r"several splits.*#train"):
        open_source(str(tmp_path))


def test_a_number_sign_may_belong_to_the_path(tmp_path: Path) -> None:
    write_class_folders(tmp_path / "photos#1", {"a": 1})
    assert len(open_source(f"{tmp_path}/photos#1")) == 1
    assert len(open_source(f"{tmp_path}/photos#1#a")) == 1


def test_what_is_not_a_file_is_refused_while_listing(tmp_path: Path) -> None:
    root = tmp_path / "odd"
    write_class_folders(root, {"a": 1})
    (root / "dangling.jpg").symlink_to(root / "gone.jpg")
    (root / "self.jpg").symlink_to(root / "self.jpg")
    (root / "folder.jpg").mkdir()
    os.mkfifo(root / "pipe.jpg")
    (root / "a" / "loop").symlink_to(root)
    source = open_source(str(root))
    reasons = {entry.id: entry.reason for entry in source.rejected}
    assert list(source.ids) == ["a/000.png"]
    assert reasons["dangling.jpg"] == "dangling link"
    assert "symbolic links" in reasons["self.jpg"]
    assert reasons["folder.jpg"] == "a folder, not an image"
    assert reasons["pipe.jpg"] == "not a file"
    assert reasons["a/loop"] == "link to a folder that is read already"


def test_linked_folder_is_read_once(tmp_path: Path) -> None:
    write_class_folders(tmp_path / "elsewhere", {"a": 2})
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "link").symlink_to(tmp_path / "elsewhere")
    assert list(open_source(f"{tmp_path}/photos").ids) == ["link/a/000.png", "link/a/001.png"]


def test_odd_names_are_found_and_read(tmp_path: Path) -> None:
    root = tmp_path / "odd"
    root.mkdir()
    names = [b"new\nline.png", b"\xff\xfe.png", "snow \u2603.png".encode(), b"tab\t#.png"]
    for seed, name in enumerate(names):
        Path(os.fsdecode(os.path.join(os.fsencode(root), name))).write_bytes(png(seed))  # noqa: PTH118
    source = open_source(str(root))
    found = {os.fsencode(name): source.read(position) for position, name in enumerate(source.ids)}
    assert found == {name: png(seed) for seed, name in enumerate(names)}


def test_fingerprint_follows_the_files(tmp_path: Path) -> None:
    write_class_folders(tmp_path / "p", {"a": 2})
    first = open_source(f"{tmp_path}/p").fingerprint
    assert open_source(f"{tmp_path}/p").fingerprint == first
    os.utime(tmp_path / "p" / "a" / "000.png", ns=(1, 1))
    assert open_source(f"{tmp_path}/p").fingerprint != first


def test_list_with_labels_and_comments(tmp_path: Path) -> None:
    write_class_folders(tmp_path / "images", {"x": 3})
    lines = ["# chosen by hand", "", "images/x/002.png\tzebra", "images/x/000.png", "images/x/001.png\tape", "gone.png"]
    (tmp_path / "list.txt").write_text("\n".join(lines), encoding="utf-8")
    source = open_source(f"{tmp_path}/list.txt")
    assert list(source.ids) == ["images/x/002.png", "images/x/000.png", "images/x/001.png"]
    assert (source.labels.tolist(), source.classes) == ([1, -1, 0], ("ape", "zebra"))
    assert [(entry.id, entry.reason) for entry in source.rejected] == [("gone.png", "no such file or directory")]
    assert source.read(0) == png(2)


def test_whole_numbers_as_labels_keep_their_value(tmp_path: Path) -> None:
    write_class_folders(tmp_path, {"x": 3})
    (tmp_path / "list.txt").write_text("x/000.png\t10\nx/001.png\t2\nx/002.png\t-1\n", encoding="utf-8")
    source = open_source(f"{tmp_path}/list.txt")
    assert source.labels.tolist() == [10, 2, -1]
    assert source.classes[10] == "10"


def test_parquet_with_class_names(tmp_path: Path) -> None:
    write_parquet(tmp_path / "x.parquet", 5, [1, 0, -1, None, 7], ["ape", "zebra"])
    source = open_source(f"{tmp_path}/x.parquet")
    assert list(source.ids) == [f"{seed}.png" for seed in range(5)]
    assert (source.labels.tolist(), source.classes) == ([1, 0, -1, -1, -1], ("ape", "zebra"))
    assert [source.read(position) for position in (4, 0, 3)] == [png(4), png(0), png(3)]


def test_parquet_with_texts_as_labels_and_no_paths(tmp_path: Path) -> None:
    write_parquet(tmp_path / "x.parquet", 3, ["b", None, "a"], paths=False)
    source = open_source(f"{tmp_path}/x.parquet")
    assert list(source.ids) == ["x.parquet:0", "x.parquet:1", "x.parquet:2"]
    assert (source.labels.tolist(), source.classes) == ([1, -1, 0], ("a", "b"))


def test_parquet_of_plain_bytes_without_labels(tmp_path: Path) -> None:
    pq.write_table(pa.table({"img": pa.array([png(0), None], pa.binary())}), tmp_path / "x.parquet")
    source = open_source(f"{tmp_path}/x.parquet")
    assert source.labels.tolist() == [-1, -1]
    assert source.read(0) == png(0)
    with pytest.raises(BadImage, match="no bytes"):
        source.read(1)


def test_splits_of_a_parquet_folder(tmp_path: Path) -> None:
    write_parquet(tmp_path / "data" / "train-00000-of-00002.parquet", 4, [0, 1, 0, 1])
    write_parquet(tmp_path / "data" / "train-00001-of-00002.parquet", 2, [2, 2])
    write_parquet(tmp_path / "data" / "test-00000-of-00001.parquet", 3, [0, 1, 2])
    source = open_source(f"{tmp_path}#train")
    assert source.labels.tolist() == [0, 1, 0, 1, 2, 2]
    assert source.read(5) == png(1)
    assert source.ids[4] == "train-00001-of-00002.parquet:0"
    assert len(open_source(f"{tmp_path}#test")) == 3
    with pytest.raises(DataError, match="several splits"):
        open_source(str(tmp_path))
    with pytest.raises(DataError, match="no split 'dev'"):
        open_source(f"{tmp_path}#dev")


def test_broken_parquet_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.parquet").write_bytes(b"PAR1 and nothing else")
    with pytest.raises(DataError, match=r"x\.parquet' is no readable parquet file"):
        len(open_source(f"{tmp_path}/x.parquet"))
    pq.write_table(pa.table({"text": ["a"]}), tmp_path / "y.parquet")
    with pytest.raises(DataError, match=r"no image column.*text"):
        len(open_source(f"{tmp_path}/y.parquet"))


@pytest.mark.parametrize("kind", ["folder", "parquet", "shards", "digits"])
def test_source_travels_to_another_process(kind: str, tmp_path: Path) -> None:
    write_class_folders(tmp_path / "folder", {"a": 2})
    write_parquet(tmp_path / "parquet" / "x.parquet", 4)
    write_tar(tmp_path / "s-0.tar", {"0.png": png(0), "1.png": png(1)})
    uri = {"folder": f"{tmp_path}/folder", "parquet": f"{tmp_path}/parquet", "shards": f"{tmp_path}/s-{{0..0}}.tar"}
    source = open_source(uri.get(kind, kind))
    expected = [source.read(0), source.read(1)]
    copy = pickle.loads(pickle.dumps(source))
    assert [copy.read(0), copy.read(1)] == expected
    assert copy.fingerprint == source.fingerprint


def test_shards_with_labels(tmp_path: Path) -> None:
    write_tar(tmp_path / "s-08.tar", {"d/0.png": png(0), "d/0.cls": b"3\n", "d/0.json": b"{}", "d/1.v2.png": png(1)})
    write_tar(tmp_path / "s-09.tar", {"0.cls": b"1", "0.png": png(2)})
    source = open_source(f"{tmp_path}/s-{{08..09}}.tar")
    assert list(source.ids) == ["s-08.tar/d/0.png", "s-08.tar/d/1.v2.png", "s-09.tar/0.png"]
    assert source.labels.tolist() == [3, -1, 1]
    assert [source.read(position) for position in range(3)] == [png(0), png(1), png(2)]


def test_shard_that_breaks_off_keeps_what_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "s.tar"
    write_tar(path, {f"{seed}.png": png(seed, 40, 40) for seed in range(4)})
    whole = path.read_bytes()
    path.write_bytes(whole[: whole.index(b"3.png") + 2000])
    source = open_source(str(path))
    assert [source.read(position) for position in range(3)] == [png(seed, 40, 40) for seed in range(3)]
    with pytest.raises(BadImage, match="ends inside"):
        source.read(3)
    second = whole.index(b"2.png")
    path.write_bytes(whole[:second] + b"\1" * 512 + whole[second + 512 :])
    damaged = open_source(str(path))
    assert len(damaged) == 2
    assert "breaks off" in damaged.rejected[0].reason


def test_compressed_and_missing_shards_are_refused(tmp_path: Path) -> None:
    write_tar(tmp_path / "s-0.tar", {"0.png": png(0)})
    (tmp_path / "z.tar").write_bytes(gzip.compress((tmp_path / "s-0.tar").read_bytes()))
    with pytest.raises(DataError, match=r"compressed \(gzip\).*decompress it"):
        open_source(f"{tmp_path}/z.tar")
    with pytest.raises(DataError, match="compressed"):
        open_source(f"{tmp_path}/z.tar.gz")
    with pytest.raises(DataError, match=r"2 of the 3 shards.*s-1\.tar.*nearest: 's-0\.tar'"):
        open_source(f"{tmp_path}/s-{{0..2}}.tar")
    (tmp_path / "t.tar").write_bytes(b"words" * 300)
    with pytest.raises(DataError, match="no readable tar file"):
        len(open_source(f"{tmp_path}/t.tar"))


def test_braces_expand_as_in_a_shell() -> None:
    assert expand_braces("a-{08..11}.tar") == ["a-08.tar", "a-09.tar", "a-10.tar", "a-11.tar"]
    assert expand_braces("{x,y}{1..2}") == ["x1", "x2", "y1", "y2"]
    assert expand_braces("{2..0}") == ["2", "1", "0"]
    assert expand_braces("{9..10}") == ["9", "10"]
    assert expand_braces("{plain}") == ["{plain}"]
    with pytest.raises(DataError, match="more than 1000000"):
        expand_braces("{0..99999999}")


def test_digits_are_split_once_and_for_all() -> None:
    train, test, both = (open_source(uri) for uri in ("digits#train", "digits#test", "digits"))
    assert (len(train), len(test), len(both)) == (1438, 359, 1797)
    assert sorted([*train.ids, *test.ids]) == list(both.ids)
    assert np.bincount(both.labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert np.bincount(test.labels, minlength=10).min() > 20
    assert len({train.fingerprint, test.fingerprint, both.fingerprint}) == 3
    with pytest.raises(DataError, match=r"no split 'tset'.*nearest: 'test'"):
        open_source("digits#tset")


@pytest.mark.parametrize("uri", ["", "hf:owner/name", "no/such/place", "digit", "a\0b", "list.txt", "x.parquet"])
def test_what_does_not_exist_is_a_data_error(uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"^data: .*(give|check) "):
        open_source(uri)


def test_hints_name_the_nearest(tmp_path: Path) -> None:
    write_class_folders(tmp_path, {"photos": 1})
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.pdf").write_text("x")
    with pytest.raises(DataError, match="nearest: 'photos'"):
        open_source(f"{tmp_path}/photo")
    with pytest.raises(DataError, match="unknown scheme 'hf'"):
        open_source("hf:owner/name")
    with pytest.raises(DataError, match="no images under"):
        open_source(f"{tmp_path}/empty")
    with pytest.raises(DataError, match=r"unknown kind '\.pdf'"):
        open_source(f"{tmp_path}/notes.pdf")
    with pytest.raises(DataError, match="has no splits"):
        open_source(f"{tmp_path}/photos/000.png#train")
