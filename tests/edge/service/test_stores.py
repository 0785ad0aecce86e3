"""Versions and returns in an object store: the machine that serves them may be lost.

In memory with every run; in S3, as moto serves it, with `-m slow` where `moto[server]` and `s3fs` are installed.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stillhouse.edge.service.folder import StateFolder
from stillhouse.edge.service.stores import ObjectStore, open_store
from stillhouse.errors import RunError, SettingsError
from tests.edge.service.conftest import MakeFleet
from tests.edge.service.fleet import Fleet, changed
from tests.edge.service.test_commits import Killer, live, version_name

KEYS = {"AWS_ACCESS_KEY_ID": "nobody", "AWS_SECRET_ACCESS_KEY": "nothing", "AWS_DEFAULT_REGION": "us-east-1"}


@pytest.fixture(params=["memory", pytest.param("s3", marks=pytest.mark.slow)])
def uri(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An empty prefix of a store that is gone afterwards."""
    if request.param == "memory":
        yield f"memory://{tmp_path.name}/core"
        return
    server: Any = pytest.importorskip("moto.server").ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    s3fs: Any = pytest.importorskip("s3fs")
    server.start()
    host, port = server.get_host_and_port()
    for name, value in {**KEYS, "AWS_ENDPOINT_URL": f"http://{host}:{port}"}.items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    s3fs.S3FileSystem().makedirs("bucket", exist_ok=True)
    yield f"s3://bucket/{tmp_path.name}"
    s3fs.S3FileSystem.clear_instance_cache()
    server.stop()


def test_the_machine_is_lost(make_fleet: MakeFleet, uri: str, tmp_path: Path) -> None:
    """What the tables and the store know is enough to go on elsewhere, with clones out and a return waiting."""
    tables = f"sqlite:///{tmp_path / 'tables.db'}"

    def begin(fleet: Fleet) -> tuple[str, str, bytes]:
        out = fleet.device("b").lease().lease
        body = changed(fleet.device("b").model(out), 3.0)
        fleet.visit("a", 1.0)
        fleet.teach()
        waiting = fleet.visit("c", 2.0)
        fleet.device("b").send(out, body, cut=100)
        return out, waiting, body

    def end(fleet: Fleet, out: str, waiting: str, body: bytes) -> str:
        device = fleet.device("b")
        assert changed(device.model(out), 3.0) == body
        assert fleet.teach() == {}
        device.send(out, body, offset=device.offset(out))
        assert fleet.teach() == {}
        assert (device.state(out).state, fleet.device("c").state(waiting).state) == ("applied", "applied")
        return fleet.service.core.digest

    whole = make_fleet(name="whole")
    wanted = end(whole, *begin(whole))
    lost = make_fleet(name="lost", database=tables, files=uri)
    begun = begin(lost)
    lost.close()
    found = make_fleet(name="found", database=tables, files=uri, invitations=lost.invitations, keys=lost.keys)
    assert end(found, *begun) == wanted
    assert ObjectStore(uri).names() == [f"versions/{version_name(3, wanted)}"]


def test_a_store_that_comes_later_gets_what_is_there(make_fleet: MakeFleet, uri: str, tmp_path: Path) -> None:
    """The core, the version that is lent and the return that waits, though half a copy may be there; no parts."""
    tables = f"sqlite:///{tmp_path / 'tables.db'}"
    fleet = make_fleet(name="old", database=tables)
    out = fleet.device("b").lease().lease
    body = changed(fleet.device("b").model(out), 3.0)
    fleet.visit("a", 1.0)
    assert fleet.teach() == {}
    waiting = fleet.visit("c", 2.0)
    fleet.device("b").send(out, body, cut=100)
    held = sorted(f"{path.parent.name}/{path.name}" for path in fleet.path.glob("[vs]*/*.safetensors"))
    fleet.files = uri
    fleet.restart()
    assert sorted(ObjectStore(uri).names()) == held
    assert len(held) == 3
    (tmp_path / "half").write_bytes(b"half")
    ObjectStore(uri).put(tmp_path / "half", held[0])
    fleet.restart()
    fleet.close()
    new = make_fleet(name="new", database=tables, files=uri, invitations=fleet.invitations, keys=fleet.keys)
    assert changed(new.device("b").model(out), 3.0) == body
    assert new.teach() == {}
    assert new.device("c").state(waiting).state == "applied"


@pytest.mark.parametrize("step", ["body named", "version written", "committed"])
def test_killed_between_a_put_and_its_transaction(make_fleet: MakeFleet, uri: str, step: str) -> None:  # fault 12
    wanted, _ = live(make_fleet(name="quiet"))
    killer = Killer(step)
    fleet = make_fleet(files=uri, passing=killer)
    digest, versions = live(fleet)
    assert (digest, versions) == (wanted, sorted(versions))
    assert killer.passed[step] > 1
    fleet.restart()
    assert ObjectStore(uri).names() == [f"versions/{version_name(4, digest)}"]


def test_a_store_that_refuses(make_fleet: MakeFleet, uri: str, monkeypatch: pytest.MonkeyPatch) -> None:  # fault 13
    """Nothing is acknowledged and nothing taught that it does not hold; all goes on once it is back."""
    fleet = make_fleet(files=uri)
    device = fleet.device("a")
    lease = device.lease().lease
    body = changed(device.model(lease), 1.0)

    def refuse(self: ObjectStore, what: str, *told: object) -> None:
        raise RunError(f"{what}: away")

    with monkeypatch.context() as away:
        away.setattr(ObjectStore, "_ask", refuse)
        with pytest.raises(RunError, match="away"):
            device.send(lease, body)
    assert device.state(lease).state == "out"
    device.send(lease, body)
    with monkeypatch.context() as away:
        away.setattr(ObjectStore, "_ask", refuse)
        with pytest.raises(RunError, match="away"):
            fleet.service.apply_next()
    assert (fleet.service.core.version, device.state(lease).state) == (0, "spooled")
    assert fleet.teach() == {}
    assert fleet.service.core.version == 1


def test_a_file_is_fetched_by_several_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second fetch that ends while the first is half done disturbs nothing, and nobody sees half a file."""
    store, path = ObjectStore(f"memory://{tmp_path.name}"), tmp_path / "version"
    path.write_bytes(b"weights")
    store.put(path, "version")
    path.unlink()
    asked, halves = store._ask, list[str]()

    def ask(what: str, *told: object) -> Any:
        if what == "get_file" and not halves:
            halves.append(str(told[1]))
            Path(halves[0]).write_bytes(b"wei")
            assert not path.exists()
            store.fetch("version", path)
            assert (path.read_bytes(), Path(halves[0]).read_bytes()) == (b"weights", b"wei")
        return asked(what, *told)

    monkeypatch.setattr(store, "_ask", ask)
    store.fetch("version", path)
    assert halves
    assert [file.name for file in tmp_path.iterdir()] == ["version"]
    assert path.read_bytes() == b"weights"


def test_what_was_half_fetched_is_swept(make_fleet: MakeFleet, uri: str) -> None:
    fleet = make_fleet(files=uri)
    current = next(fleet.service.folder.versions.iterdir())
    for folder in (fleet.service.folder.versions, fleet.service.folder.spool):
        (folder / f".{current.name}.abc").write_bytes(b"half")
    fleet.restart()
    assert list(fleet.service.folder.versions.iterdir()) == [current]
    assert not list(fleet.service.folder.spool.iterdir())


def test_a_prefix_belongs_to_one_core(make_fleet: MakeFleet, uri: str) -> None:
    """Whoever else comes, new or long at work, is sent away before anything there is written or swept."""
    first = make_fleet(name="first", files=uri)
    first.visit("a", 1.0)
    held = sorted(ObjectStore(uri).names())
    with pytest.raises(RunError, match="another core"):
        make_fleet(name="new", files=uri)
    make_fleet(name="old").close()
    with pytest.raises(RunError, match="another core"):
        make_fleet(name="old", files=uri)
    assert sorted(ObjectStore(uri).names()) == held
    first.restart()
    assert first.teach() == {}


def test_a_core_that_died_before_its_first_version_keeps_its_prefix(
    make_fleet: MakeFleet, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as dying:
        dying.setattr(StateFolder, "write_version", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            make_fleet(files=uri)
    make_fleet(files=uri).visit("a", 1.0)


def test_a_prefix_below_another_is_not_swept(make_fleet: MakeFleet, uri: str) -> None:
    above = make_fleet(name="above", files=uri)
    below = make_fleet(name="below", files=f"{uri}/below")
    above.restart()
    below.visit("a", 1.0)
    assert below.teach() == {}
    below.restart()
    assert len(ObjectStore(f"{uri}/below").names()) == 1


def test_a_folder_is_a_store(make_fleet: MakeFleet, tmp_path: Path) -> None:
    """Its folders are made as they are needed."""
    fleet = make_fleet(files=f"file://{tmp_path / 'far' / 'away'}")
    fleet.visit("a", 1.0)
    assert fleet.teach() == {}
    name = version_name(1, fleet.service.core.digest)
    assert (tmp_path / "far" / "away" / "versions" / name).read_bytes() == (
        fleet.service.folder.versions / name
    ).read_bytes()


def test_what_is_no_store(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"service\.files"):
        open_store("nowhere://bucket")
    assert StateFolder(tmp_path).store.names() == ()
