"""A service killed at any step of the commit order ends with the core of one that never was."""

import resource
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest
import safetensors.torch
import torch

from stillhouse.edge.lesson import Arrival, State, Taught
from stillhouse.errors import RunError
from tests.edge.service.conftest import IN_PROCESS, POSTGRESQL, MakeFleet
from tests.edge.service.fleet import START, Averaging, Fleet, changed

STEPS = [
    "body written", "body named", "recorded", "examined", "taught", "version written", "transaction open", "committed",
    "swapped", "tidied", "refused",
]  # fmt: skip


class KilledError(BaseException):
    """The process is gone."""


@dataclass
class Killer:
    """Lets steps pass, but dies once: the `nth` time at this one."""

    at: str = ""
    nth: int = 1
    passed: Counter[str] = field(default_factory=Counter)

    def __call__(self, step: str) -> None:
        self.passed[step] += 1
        if step == self.at and self.passed[step] == self.nth:
            raise KilledError


def live(fleet: Fleet) -> tuple[str, list[int]]:
    """Five returns, one of them stale, one refused: the last digest, and the versions on the way."""
    versions: list[int] = []

    def go(act: Callable[[], object]) -> None:
        try:
            act()
        except KilledError:
            fleet.restart()
            act()
        versions.append(fleet.service.core.version)

    def send(name: str, lease: str, body: bytes) -> None:
        go(lambda: fleet.device(name).send(lease, body))

    leases = {name: fleet.device(name).lease().lease for name in ("a", "b", "c")}
    models = {name: fleet.device(name).model(lease) for name, lease in leases.items()}
    send("a", leases["a"], changed(models["a"], 1.0))
    go(fleet.teach)
    send("c", leases["c"], changed(models["c"], float("nan")))
    send("b", leases["b"], changed(models["b"], 2.0))
    go(fleet.teach)
    for change in (3.0, 4.0):
        lease = fleet.device("a").lease().lease
        send("a", lease, changed(fleet.device("a").model(lease), change))
        go(fleet.teach)
    return fleet.service.core.digest, versions


def files(fleet: Fleet) -> list[str]:
    folder = fleet.service.folder
    return sorted(path.name for path in (*folder.versions.iterdir(), *folder.spool.iterdir()))


def version_name(version: int, digest: str) -> str:
    return f"{version:08d}-{digest[:16]}.safetensors"


@pytest.mark.parametrize("place", [IN_PROCESS, POSTGRESQL])
def test_killed_at_every_step(make_fleet: MakeFleet, place: str) -> None:  # fault 12
    wanted, times = undisturbed(make_fleet, place)
    for number, step in enumerate(STEPS):
        check_killed(make_fleet, place, wanted, step, nth=1 if number % 2 else times[step])


@pytest.mark.slow
@pytest.mark.parametrize("place", [IN_PROCESS, POSTGRESQL])
def test_killed_at_every_step_each_time_it_comes(make_fleet: MakeFleet, place: str) -> None:  # fault 12
    wanted, times = undisturbed(make_fleet, place)
    for step, count in times.items():
        for nth in range(1, count + 1):
            check_killed(make_fleet, place, wanted, step, nth)


def undisturbed(make_fleet: MakeFleet, place: str) -> tuple[str, Counter[str]]:
    """The last digest of a life in which nobody is killed, and how often each step comes."""
    quiet = Killer()
    fleet = make_fleet(place, "quiet", passing=quiet)
    wanted, versions = live(fleet)
    assert versions[-1] == 4
    assert set(quiet.passed) == set(STEPS)
    fleet.close()
    return wanted, quiet.passed


def check_killed(make_fleet: MakeFleet, place: str, wanted: str, step: str, nth: int) -> None:
    """A life with a death in it ends alike, and nothing is left over or counted twice."""
    killer = Killer(step, nth)
    fleet = make_fleet(place, f"{step} {nth}", passing=killer)
    digest, versions = live(fleet)
    assert (step, digest) == (step, wanted)
    assert versions == sorted(versions), f"{step}: the version went back"
    assert killer.passed[step] >= nth
    assert files(fleet) == [version_name(4, digest)]
    told = {entry.name: entry for entry in fleet.service.status().devices}
    assert (told["a"].applied, told["b"].applied, told["c"].refused, told["c"].strikes) == (3, 1, 1, 1)
    fleet.close()


def test_tensors_come_in_the_same_order_after_a_restart(make_fleet: MakeFleet) -> None:
    fleet = make_fleet(lesson=Averaging(start={"z": torch.zeros(1), "a": torch.zeros(2, dtype=torch.float64)}))
    for _ in range(2):
        assert list(fleet.service.core.state) == ["a", "z"]
        fleet.restart()


def test_what_a_crash_left_is_swept(make_fleet: MakeFleet) -> None:
    fleet = make_fleet()
    fleet.visit("a", 1.0)
    lease = fleet.device("b").lease().lease
    fleet.device("b").send(lease, changed(fleet.device("b").model(lease), 2.0), cut=30)
    kept = files(fleet)
    folder = fleet.service.folder
    (folder.versions / version_name(7, "0" * 64)).write_bytes(b"half")
    (folder.spool / "unknown.part").write_bytes(b"half")
    (folder.versions / ".00000001-0.safetensors.77.tmp").write_bytes(b"half")
    fleet.restart()
    assert files(fleet) == kept


def test_a_base_stays_until_its_last_lease_ends(make_fleet: MakeFleet) -> None:
    fleet = make_fleet()
    slow = fleet.device("slow")
    lease, first = slow.lease().lease, fleet.service.core.digest
    for change in (1.0, 2.0):
        fleet.visit("quick", change)
        fleet.teach()
    assert files(fleet) == [version_name(0, first), version_name(2, fleet.service.core.digest)]
    slow.send(lease, changed(slow.model(lease), 3.0))
    fleet.teach()
    assert files(fleet) == [version_name(3, fleet.service.core.digest)]
    assert isinstance(fleet.lesson, Averaging)
    assert fleet.lesson.seen[-1].staleness == 2
    assert torch.equal(fleet.lesson.seen[-1].base["weight"], START["weight"])


@pytest.fixture
def large_fleet(make_fleet: MakeFleet) -> Fleet:
    """A core of 2 MB."""
    return make_fleet(lesson=Averaging(start={"weight": torch.zeros(500_000)}))


def test_a_disk_that_is_full(large_fleet: Fleet) -> None:  # fault 13
    """The kernel refuses to write more than 1 MB into any file."""
    fleet, device = large_fleet, large_fleet.device("a")
    lease = device.lease().lease
    body = _longer(device.model(lease))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, before[1]))
    try:
        with pytest.raises(RunError, match="free space"):
            device.send(lease, body)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    device.send(lease, body)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, before[1]))
    try:
        with pytest.raises(RunError, match="free space"):
            fleet.service.apply_next()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert (fleet.service.core.version, device.state(lease).state) == (0, "spooled")
    fleet.restart()
    assert fleet.teach() == {}
    assert fleet.service.core.version == 1


def _longer(model: bytes) -> bytes:
    return safetensors.torch.save({name: value + 1 for name, value in safetensors.torch.load(model).items()})


def test_a_database_that_is_full(make_fleet: MakeFleet) -> None:  # fault 13
    fleet = make_fleet()
    device = fleet.device("a")
    lease = device.lease().lease
    body = changed(device.model(lease), 1.0)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        for ask in (device.lease, lambda: device.send(lease, body), lambda: device.beat(lease)):
            with pytest.raises(RunError, match="the database refuses"):
                ask()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert device.state(lease).state == "out"
    device.send(lease, body)
    assert fleet.teach() == {}


def test_a_folder_that_turns_read_only(make_fleet: MakeFleet) -> None:  # fault 13
    """Root may write anywhere, so it is the files that are in the way: folders lie where they should be."""
    fleet = make_fleet()
    device = fleet.device("a")
    lease = device.lease().lease
    body = changed(device.model(lease), 1.0)
    folder = fleet.service.folder
    folder.spool.chmod(0o500)
    spool = folder.part_file(lease)
    spool.mkdir()
    with pytest.raises(RunError, match="cannot be written"):
        device.send(lease, body)
    spool.rmdir()
    folder.spool.chmod(0o700)
    device.send(lease, body)
    versions = folder.versions.rename(folder.path / "elsewhere")
    folder.versions.write_bytes(b"")
    with pytest.raises(RunError, match="cannot be written"):
        fleet.service.apply_next()
    folder.versions.unlink()
    versions.rename(folder.versions)
    assert (fleet.service.core.version, device.state(lease).state) == (0, "spooled")
    assert fleet.teach() == {}
    assert fleet.service.core.version == 1


def test_a_folder_that_cannot_be_written(make_fleet: MakeFleet) -> None:  # fault 13
    with pytest.raises(RunError, match="state folder"):
        make_fleet(name="/proc/nowhere")


def test_a_damaged_core_is_told(make_fleet: MakeFleet) -> None:  # fault 13
    fleet = make_fleet()
    _damage(fleet)
    fleet.close()
    with pytest.raises(RunError, match="restore this file"):
        fleet.restart()


def test_a_damaged_base_is_not_the_devices_fault(make_fleet: MakeFleet) -> None:  # fault 13
    fleet = make_fleet()
    device = fleet.device("a")
    lease = device.lease().lease
    body = changed(device.model(lease), 1.0)
    fleet.visit("b", 2.0)
    _damage(fleet)
    fleet.teach()
    device.send(lease, body)
    assert list(fleet.teach().values()) == ["the clone was damaged on the server's disk"]
    assert fleet.service.status().devices[0].strikes == 0


def test_a_damaged_return_is_not_the_devices_fault(make_fleet: MakeFleet) -> None:
    fleet = make_fleet()
    lease = fleet.visit("a", 1.0)
    (path,) = fleet.service.folder.spool.iterdir()
    path.write_bytes(b"x" + path.read_bytes()[1:])
    assert fleet.teach() == {lease: "the return was damaged on the server's disk"}
    assert fleet.service.status().devices[0].strikes == 0


def _damage(fleet: Fleet) -> None:
    """Change a byte of the core's file."""
    path = fleet.service.folder.version_file(fleet.service.core.version, fleet.service.core.digest)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def test_a_lesson_that_fails_costs_its_return_only(make_fleet: MakeFleet) -> None:
    class Failing(Averaging):
        def teach(self, core: State, arrivals: Sequence[Arrival], version: int) -> Taught:
            if len(self.seen) == 0:
                self.seen += arrivals
                raise ZeroDivisionError("nothing to learn")
            return super().teach(core, arrivals, version)

    fleet = make_fleet(lesson=Failing())
    first = fleet.visit("a", 1.0)
    assert fleet.teach() == {first: "the lesson failed (ZeroDivisionError)"}
    fleet.visit("a", 2.0)
    assert fleet.teach() == {}
    assert fleet.service.core.version == 1
