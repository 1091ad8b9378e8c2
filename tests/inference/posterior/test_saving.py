"""Saving beside readers, other writers and other people's files, and being killed meanwhile: nothing wrong or lost."""

import itertools
import multiprocessing
import os
import random
import signal
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from inference import Posterior, memory
from inference.atomic_write import atomic_write, check_writable
from inference.posterior import files
from inference.posterior.files import HEADER, tensors_file
from inference.tensor_file import write_tensors

NUMBERS = 20_000


def numbered(value, size=NUMBERS):
    """A posterior whose header and tensors both say which one it is."""
    return Posterior(None, {"z": torch.full((2, 1, size), float(value))}, {"number": value})


def number_of(posterior):
    """Which one it is, if header and tensors are of the same one."""
    values = posterior.samples["z"].unique().tolist()
    assert values == [posterior.stats["number"]]
    return posterior.stats["number"]


def save_numbers(folder, first, begun, stop):
    """Save one posterior after the other."""
    for number in itertools.count(first):
        begun.set()
        numbered(number).save(folder)
        if stop.is_set():
            break


def save_and_be_killed(folder, moment):
    """Be killed behind the tensors, or when a part of the header is written."""
    original, kept = getattr(files, moment), []

    def killed(*arguments):
        kept.append(original(*arguments))
        if moment == "atomic_write":
            kept[0].__enter__().write_text('{"format"')
        os.kill(os.getpid(), signal.SIGKILL)

    setattr(files, moment, killed)
    numbered(1).save(folder)


@pytest.fixture(scope="module")
def processes():
    """Processes that have imported everything."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context


@pytest.fixture
def write(processes):
    """Start processes that save one posterior after the other; they are gone at the end."""
    writers, stop = [], processes.Event()

    def start(folder, first=0):
        begun = processes.Event()
        writer = processes.Process(target=save_numbers, args=(folder, first, begun, stop))
        writer.start()
        writers.append(writer)
        assert begun.wait(60)
        return writer

    start.stop = stop
    yield start
    for writer in writers:
        writer.kill()
        writer.join()


def entries(folder):
    return {path.name for path in folder.iterdir()}


def test_a_reader_beside_two_writers_always_sees_one_whole_posterior(write, tmp_path):
    folder, seen = tmp_path / "run", []
    numbered(0).save(folder)
    writers, end = [write(folder), write(folder, 1_000_000)], time.monotonic() + 3
    while time.monotonic() < end:
        seen.append(number_of(Posterior.load(folder)))
    write.stop.set()
    for writer in writers:
        writer.join(60)
        assert writer.exitcode == 0
    for first in (0, 1_000_000):  # each writer's go up
        own = [number for number in seen if 0 < number - first < 1_000_000]
        assert own == sorted(own)
        assert len(set(own)) > 1
    assert entries(folder) == {HEADER, tensors_file(folder)}
    assert entries(tmp_path) == {"run"}


def test_killed_at_any_moment_there_is_the_old_one_or_the_new_one(write, tmp_path):
    folder, moments = tmp_path / "run", random.Random(0)
    numbered(-1).save(folder)
    for first in range(0, 10_000, 1_000):
        before = number_of(Posterior.load(folder))
        writer = write(folder, first)
        time.sleep(moments.uniform(0.0, 0.05))
        writer.kill()
        writer.join()
        after = number_of(Posterior.load(folder))
        assert after == before or first <= after < first + 1_000
    numbered(7).save(folder)
    assert entries(folder) == {HEADER, tensors_file(folder)}
    assert entries(tmp_path) == {"run"}


@pytest.mark.parametrize("moment", ["write_tensors", "atomic_write"])
def test_killed_in_the_first_save_leaves_nothing_that_the_next_does_not_remove(processes, tmp_path, moment):
    folder = tmp_path / "run"
    child = processes.Process(target=save_and_be_killed, args=(folder, moment))
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL
    assert len(entries(folder)) == (1 if moment == "write_tensors" else 2)
    with pytest.raises(FileNotFoundError, match="holds no saved posterior"):
        Posterior.load(folder)
    numbered(2).save(folder)
    assert entries(folder) == {HEADER, tensors_file(folder)}


def test_what_a_living_writer_is_writing_is_left_alone(tmp_path, monkeypatch):
    """Another one saves while this one is between its tensors and its header, and is replaced by it."""
    folder, original = tmp_path / "run", files.write_tensors

    def meanwhile(file, tensors):
        original(file, tensors)
        monkeypatch.setattr(files, "write_tensors", original)
        numbered(1).save(folder)
        assert len(entries(folder)) == 3

    monkeypatch.setattr(files, "write_tensors", meanwhile)
    numbered(2).save(folder)
    assert number_of(Posterior.load(folder)) == 2
    assert entries(folder) == {HEADER, tensors_file(folder)}


def test_hidden_and_foreign_files_survive(tmp_path):
    folder = tmp_path / "run"
    numbered(0).save(folder)
    (folder / ".git").mkdir()
    own = {".git/config": "mine", ".env": "secret", f".{HEADER}-of-mine": "mine", f".tensors-{'0' * 32}": "mine"}
    for name, text in own.items():
        (folder / name).write_text(text)
    numbered(1).save(folder)
    assert number_of(Posterior.load(folder)) == 1
    foreign = ["notes.txt", "tensors.safetensors", "tensors-old.safetensors", f"tensors-{'0' * 32}.safetensors.bak"]
    for name in foreign:
        (folder / name).write_text("mine")
        with pytest.raises(FileExistsError, match=rf"holds other files \({name}\)"):
            numbered(2).save(folder)
        assert (folder / name).read_text() == "mine"
        (folder / name).unlink()
    assert {name: (folder / name).read_text() for name in own} == own
    assert number_of(Posterior.load(folder)) == 1


@pytest.mark.parametrize("text", ['{"name": "somebody"}', "[1]", "no JSON", '{"format": "other", "version": 1}'])
def test_somebody_elses_posterior_json_is_not_replaced(tmp_path, text):
    (tmp_path / HEADER).write_text(text)
    with pytest.raises(FileExistsError, match=r"posterior\.json is no header of a posterior that"):
        numbered(0).save(tmp_path)
    assert (tmp_path / HEADER).read_text() == text
    assert entries(tmp_path) == {HEADER}


@pytest.mark.parametrize("first", ["there", "not there yet"])
def test_links_and_dots_and_slashes_are_folders_as_any_other(tmp_path, monkeypatch, first):
    target, link = tmp_path / "disk" / "run", tmp_path / "link"
    if first == "there":
        numbered(0).save(target)
    link.symlink_to(target)
    numbered(1).save(link)
    assert link.is_symlink()
    assert number_of(Posterior.load(target)) == 1
    monkeypatch.chdir(target)
    for number, path in enumerate((".", "./", f"{link}/", "../run", ""), start=2):
        numbered(number).save(path)
        assert number_of(Posterior.load(path)) == number
    assert entries(target) == {HEADER, tensors_file(target)}
    assert entries(target.parent) == {"run"}
    (target / HEADER).rename(tmp_path / "elsewhere.json")  # a header that is a link stays one, too
    (target / HEADER).symlink_to(tmp_path / "elsewhere.json")
    numbered(9).save(target)
    assert (target / HEADER).is_symlink()
    assert number_of(Posterior.load(target)) == 9


@pytest.mark.parametrize("umask", [0o022, 0o027, 0o077])
def test_permissions_are_those_of_any_new_file(tmp_path, umask):
    before = os.umask(umask)
    try:
        folder = numbered(0).save(tmp_path / "run")
        with atomic_write(tmp_path / "file") as beside:
            beside.write_text("")
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in (*folder.iterdir(), tmp_path / "file")} == {0o666 & ~umask}
    assert folder.stat().st_mode & 0o777 == 0o777 & ~umask


def test_a_full_disk_is_reported_by_name_and_leaves_the_old_one(tmp_path, monkeypatch):
    folder = tmp_path / "run"
    numbered(0).save(folder)
    with pytest.raises(
        OSError, match=rf"cannot write to {folder}: it takes 1,000,000,000,000,000 bytes, and [\d,]+ are"
    ):
        check_writable(folder, 10**15)
    for path in (folder, tmp_path / "new"):
        with monkeypatch.context() as full:
            full.setattr("inference.posterior.files.write_tensors", lambda *_: Path("/dev/full").write_bytes(b"1"))
            with pytest.raises(OSError, match=r"[Nn]o space left"):
                numbered(1).save(path)
    assert number_of(Posterior.load(folder)) == 0
    assert entries(folder) == {HEADER, tensors_file(folder)}
    assert entries(tmp_path) == {"run"}


def test_tensors_of_every_kind_come_back_from_the_file(tmp_path):
    kinds = [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16,
             torch.int8, torch.uint8, torch.bool]  # fmt: skip
    samples = {str(kind): torch.arange(6).reshape(2, 1, 3).to(kind) for kind in kinds}
    samples |= {"strided": torch.arange(12.0).reshape(2, 2, 3).transpose(1, 2), "empty": torch.zeros(2, 1, 0)}
    samples |= {"shared": samples["strided"], "requires_grad": torch.ones(2, 1, requires_grad=True)}
    loaded = Posterior.load(Posterior(None, samples).save(tmp_path)).samples
    assert list(loaded) == list(samples)
    for name, value in samples.items():
        assert loaded[name].dtype == value.dtype
        assert torch.equal(loaded[name], value)
    with pytest.raises(TypeError, match=r"'samples/z' must hold real numbers.*complex64"):
        Posterior(None, {"z": torch.ones(1, 1, dtype=torch.complex64)}).save(tmp_path)
    assert Posterior.load(tmp_path).samples.keys() == samples.keys()


def test_where_files_cannot_be_locked_saves_are_as_whole(tmp_path, monkeypatch):
    """Only what killed writers leave stays, since nobody knows whether they live."""

    def no_locks(*_):
        raise OSError("no locks available")

    monkeypatch.setattr("fcntl.flock", no_locks)
    folder, left = tmp_path / "run", f"tensors-{'0' * 32}.safetensors"
    for number in range(3):
        numbered(number).save(folder)
        assert number_of(Posterior.load(folder)) == number
        assert entries(folder) == {HEADER, tensors_file(folder)}
    with monkeypatch.context() as full:
        full.setattr("inference.posterior.files.write_tensors", lambda *_: Path("/dev/full").write_bytes(b"1"))
        with pytest.raises(OSError, match="o space left"):
            numbered(3).save(folder)
    (folder / left).touch()
    numbered(4).save(folder)
    assert entries(folder) == {HEADER, tensors_file(folder), left}
    monkeypatch.undo()
    numbered(5).save(folder)
    assert entries(folder) == {HEADER, tensors_file(folder)}


def test_tensors_that_are_not_in_one_part_of_memory_are_written_in_parts(tmp_path, monkeypatch):
    whole = torch.arange(2 * 6 * 4 * 5).reshape(2, 6, 4, 5)
    cases = {
        "first draws": whole[:, :3],
        "transposed": whole.transpose(0, 3),
        "every second": whole[..., ::2],
        "repeated": torch.arange(3.0).expand(4, 7, 3),
        "number": torch.tensor(3.0),
        "empty": whole[:, :0],
    }
    for budget in (1, 1_000, 10**6):
        monkeypatch.setattr(memory, "AT_ONCE", budget)
        path = tmp_path / f"{budget}.safetensors"
        with path.open("wb") as file:
            write_tensors(file, cases)
        for name, value in load_file(path).items():
            assert torch.equal(value, cases[name]), (name, budget)
