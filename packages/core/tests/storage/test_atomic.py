"""The writer: old or new, never less, and said in our words when it cannot be."""

import errno
import multiprocessing
import os
import resource
import signal
import subprocess
import sys

import pytest

from cellweave.errors import IntegrityError, UnwritableError
from cellweave.storage import atomic as atomic_module
from cellweave.storage import (
    atomic_file,
    atomic_folder,
    inspect,
    verify,
    verify_or_raise,
    write_bytes,
)


def _leftovers(folder):
    return [p.name for p in folder.iterdir() if ".cellweave-" in p.name]


def test_a_file_is_written_with_its_manifest(tmp_path):
    write_bytes(tmp_path / "a" / "b.bin", b"hello", kind="test")
    assert (tmp_path / "a" / "b.bin").read_bytes() == b"hello"
    found = inspect(tmp_path / "a" / "b.bin")
    assert found.ok
    assert found.kind == "test"
    assert found.checked == ("b.bin",)
    assert _leftovers(tmp_path / "a") == []


def test_an_error_leaves_the_old_file_and_no_leftover(tmp_path):
    target = tmp_path / "x"
    write_bytes(target, b"old", kind="test")
    with pytest.raises(ZeroDivisionError), atomic_file(target, kind="test") as temporary:
        temporary.write_bytes(bytes(1 // (temporary == target)))
    assert target.read_bytes() == b"old"
    assert verify(target) == []
    assert _leftovers(tmp_path) == []


def test_a_missing_temporary_is_told(tmp_path):
    with (
        pytest.raises(UnwritableError, match="nothing was written"),
        atomic_file(tmp_path / "x", kind="t"),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_link_is_followed_and_vouched_for_where_it_points(tmp_path):
    real = tmp_path / "real"
    real.mkdir()
    write_bytes(real / "x", b"1", kind="t")
    link = tmp_path / "link"
    link.symlink_to(real / "x")
    write_bytes(link, b"2", kind="t")
    assert link.is_symlink()
    assert (real / "x").read_bytes() == b"2"
    assert verify(link) == verify(real / "x") == []


def test_foreign_folders_are_not_replaced(tmp_path):
    target = tmp_path / "home"
    target.mkdir()
    (target / "thesis.txt").write_text("years of work")
    with pytest.raises(UnwritableError, match="did not write"), atomic_folder(target, kind="t"):
        pass
    assert (target / "thesis.txt").exists()


def test_file_over_folder_and_folder_over_file_are_refused(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("x")
    with pytest.raises(UnwritableError, match="a folder of that name"):
        write_bytes(tmp_path / "folder", b"", kind="t")
    with (
        pytest.raises(UnwritableError, match="a file of that name"),
        atomic_folder(tmp_path / "file", kind="t"),
    ):
        pass
    with pytest.raises(UnwritableError, match="Cannot write"):
        write_bytes(tmp_path / "file" / "below", b"", kind="t")


def test_links_inside_a_folder_are_refused(tmp_path):
    with (
        pytest.raises(UnwritableError, match="symbolic link"),
        atomic_folder(tmp_path / "f", kind="t") as place,
    ):
        (place / "link").symlink_to("/etc/passwd")
    assert not (tmp_path / "f").exists()


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.ENOSPC, "the disk is full"),
        (errno.EACCES, "you may not write"),
        (errno.EROFS, "you may not write"),
    ],
)
def test_refusals_of_the_system_are_told(tmp_path, number, said):
    write_bytes(tmp_path / "x", b"old", kind="t")
    with (
        pytest.raises(UnwritableError, match=said) as caught,
        atomic_file(tmp_path / "x", kind="t"),
    ):
        raise OSError(number, os.strerror(number))
    assert "untouched" in str(caught.value)
    assert (tmp_path / "x").read_bytes() == b"old"


def test_hdf5_tells_a_full_disk_only_in_its_text(tmp_path):
    text = "Can't write data (file write failed: errno = 28, error message = 'No space left')"
    with (
        pytest.raises(UnwritableError, match="disk is full"),
        atomic_file(tmp_path / "x", kind="t"),
    ):
        raise OSError(text)


def test_a_real_size_limit(tmp_path):
    write_bytes(tmp_path / "x", b"old", kind="t")
    code = (
        "import resource, signal\n"
        "from cellweave.errors import UnwritableError\n"
        "from cellweave.storage import write_bytes\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "try: write_bytes('x', bytes(100_000), kind='t')\n"
        "except UnwritableError as e: print(e)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert "size limit is reached" in done.stdout
    assert (tmp_path / "x").read_bytes() == b"old"
    assert verify(tmp_path / "x") == []
    assert _leftovers(tmp_path) == []
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY


def _write_many(path, letter, kind):
    for i in range(30):
        if kind == "file":
            write_bytes(path, letter * (1000 + i), kind="t")
        else:
            with atomic_folder(path, kind="t") as place:
                (place / "a").write_bytes(letter * (1000 + i))
                (place / "b").write_bytes(letter)


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_two_processes_writing_one_path_while_a_third_verifies(tmp_path, kind):
    target = tmp_path / "x"
    _write_many(target, b"z", kind)
    context = multiprocessing.get_context("fork")
    writers = [
        context.Process(target=_write_many, args=(target, letter, kind)) for letter in (b"a", b"b")
    ]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        assert verify(target) == []
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    assert verify(target) == []
    assert _leftovers(tmp_path) == []


def _die_between_renames(path):
    atomic_module.exchange = lambda *_: False
    step = type(path).rename

    def rename_then_die(self, other):
        step(self, other)
        os.kill(os.getpid(), signal.SIGKILL)

    type(path).rename = rename_then_die
    with atomic_folder(path, kind="t") as place:
        (place / "a").write_bytes(b"new")


@pytest.mark.parametrize("how", ["verify", "verify_or_raise", "write"])
def test_a_kill_between_the_two_renames_is_mended_by_readers_and_writers(tmp_path, how):
    target = tmp_path / "f"
    with atomic_folder(target, kind="t") as place:
        (place / "a").write_bytes(b"old")
    child = multiprocessing.get_context("fork").Process(target=_die_between_renames, args=(target,))
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL
    assert not target.exists()
    if how == "verify":
        assert verify(target) == []
    elif how == "verify_or_raise":
        verify_or_raise(target)
    else:
        write_bytes(tmp_path / "other", b"", kind="t")
    assert (target / "a").read_bytes() == b"old"
    write_bytes(tmp_path / "other", b"", kind="t")
    assert _leftovers(tmp_path) == []


def test_without_exchange_folders_are_still_replaced(tmp_path, monkeypatch):
    monkeypatch.setattr(atomic_module, "exchange", lambda *_: False)
    for text in ("1", "2"):
        with atomic_folder(tmp_path / "f", kind="t") as place:
            (place / "a").write_text(text)
    assert (tmp_path / "f" / "a").read_text() == "2"
    assert verify(tmp_path / "f") == []
    assert _leftovers(tmp_path) == []


def test_leftovers_of_the_living_stay_and_of_the_dead_go(tmp_path):
    with atomic_file(tmp_path / "x", kind="t") as mine:
        mine.write_bytes(b"1")
        dead = mine.with_name(mine.name.replace(f"-{os.getpid()}-", "-999999999-"))
        dead.write_bytes(b"half")
        elsewhere = tmp_path / f".x.cellweave-ffffff-1-{'0' * 8}"
        elsewhere.write_bytes(b"a machine that shares the disk")
        write_bytes(tmp_path / "y", b"2", kind="t")
        assert mine.exists()
        assert not dead.exists()
        assert elsewhere.exists()
    os.utime(elsewhere, (0, 0))
    write_bytes(tmp_path / "y", b"2", kind="t")
    assert not elsewhere.exists()


def test_killed_between_sidecar_and_rename_both_digests_hold(tmp_path, monkeypatch):
    target = tmp_path / "x"
    write_bytes(target, b"old", kind="t")

    class Killed(BaseException):
        pass

    original = type(target).replace

    def replace(self, other):
        if other == target:
            raise Killed
        return original(self, other)

    with monkeypatch.context() as patch:
        patch.setattr(type(target), "replace", replace)
        with pytest.raises(Killed):
            write_bytes(target, b"new", kind="t")
    assert target.read_bytes() == b"old"
    assert verify(target) == []
    target.write_bytes(b"new")
    assert verify(target) == []
    target.write_bytes(b"neu")
    with pytest.raises(IntegrityError, match="not what was written"):
        verify_or_raise(target)
