"""Models on the Hugging Face Hub: fetch by name and revision, share a folder; both only on request.

The endpoint, the token and the cache are those of ``huggingface_hub`` (``HF_ENDPOINT``,
``HF_TOKEN``, ``HF_HOME``, ``HF_HUB_OFFLINE``).
"""

from __future__ import annotations

import importlib.util
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cellweave.errors import DataError, MissingDependencyError, UnreadableFileError, UnwritableError
from cellweave.storage import verify_or_raise

__all__ = ["fetch_model", "is_hub_id", "push"]

_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]*"
_NOT_OURS = (".gitattributes",)  # the Hub puts it into every repository
_HUB_ID = re.compile(rf"{_NAME}/{_NAME}")


def is_hub_id(text: str) -> bool:
    """Tell whether a text has the form ``owner/name``."""
    return _HUB_ID.fullmatch(text) is not None


def fetch_model(name: str, *, revision: str | None = None, offline: bool = False) -> Path:
    """Return a local folder with the files of a model; what is in the cache is not fetched again.

    Parameters
    ----------
    name
        ``owner/name``.
    revision
        Branch, tag or commit; a commit never changes.
    offline
        Use the cache alone and touch no network.
    """
    _require_library()
    from huggingface_hub import snapshot_download

    with _told_as_ours(name, revision, offline=offline):
        place = snapshot_download(
            name, revision=revision, local_files_only=offline, ignore_patterns=list(_NOT_OURS)
        )
    return _without_links(Path(str(place)))


def push(
    folder: str | Path,
    name: str,
    *,
    revision: str | None = None,
    private: bool = True,
    message: str = "Share a model",
) -> str:
    """Share a model folder; return the commit, which ``load(name, revision=…)`` takes.

    Parameters
    ----------
    folder
        A model folder; every digest of its manifest is checked first.
    name
        ``owner/name``; made when it is not there.
    revision
        Branch; the main one when not given.
    private
        Whether a new repository is seen by its owner alone. Say ``False`` to publish.
    message
        Of the commit.
    """
    _require_library()
    from huggingface_hub import HfApi

    if not is_hub_id(name):
        msg = f"{name!r} is no name on the Hub. Expected 'owner/name'."
        raise DataError(msg)
    verify_or_raise(Path(folder))
    api = HfApi()
    try:
        api.create_repo(name, private=private, exist_ok=True)
        if revision is not None:
            api.create_branch(repo_id=name, branch=revision, exist_ok=True)
        done = api.upload_folder(
            repo_id=name, folder_path=str(folder), revision=revision, commit_message=message
        )
    except Exception as error:
        if not _is_of_the_network(error):
            raise
        msg = (
            f"Cannot push {str(folder)!r} to {name!r}: {_first_line(error)} Check the name and "
            "that HF_TOKEN may write there."
        )
        raise UnwritableError(msg) from error
    return str(done.oid)


def _without_links(snapshot: Path) -> Path:
    """Return the files of a snapshot as plain files: the cache links to them, we refuse links.

    They stand beside the snapshot, under its commit, as hard links where the system has them.
    """
    place = snapshot.parent.parent / "cellweave" / snapshot.name
    if place.exists():
        return place
    place.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=place.parent))
    for file in sorted(p for p in snapshot.rglob("*") if p.is_file() and p.name not in _NOT_OURS):
        target = temporary / file.relative_to(snapshot)
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            target.hardlink_to(file.resolve())
        except OSError:
            shutil.copyfile(file, target)
    try:
        temporary.rename(place)
    except OSError:  # another process was first
        shutil.rmtree(temporary, ignore_errors=True)
    return place


@contextmanager
def _told_as_ours(name: str, revision: str | None, *, offline: bool) -> Iterator[None]:
    from huggingface_hub.errors import (
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    at = f" at revision {revision!r}" if revision else ""
    try:
        yield
    except RevisionNotFoundError as error:
        msg = f"{name!r} has no revision {revision!r}. Give a branch, tag or commit of it."
        raise UnreadableFileError(msg) from error
    except RepositoryNotFoundError as error:
        msg = (
            f"There is no model {name!r} on the Hub, nor anything at that path, or it is private. "
            "Check the spelling, or set HF_TOKEN to one that may read it."
        )
        raise UnreadableFileError(msg) from error
    except LocalEntryNotFoundError as error:
        why = "and offline=True allows no network" if offline else "and the Hub was not reached"
        msg = f"{name!r}{at} is not in the local cache, {why}. Load it once with a network."
        raise UnreadableFileError(msg) from error
    except Exception as error:
        if not _is_of_the_network(error):
            raise
        msg = f"Cannot fetch {name!r}{at}: {_first_line(error)} Try again, or give a local folder."
        raise UnreadableFileError(msg) from error


def _is_of_the_network(error: Exception) -> bool:
    """Tell errors of the client, whatever it is built on, from ours and from bugs."""
    theirs = type(error).__module__.startswith(("huggingface_hub", "httpx", "requests"))
    return theirs or isinstance(error, OSError)


def _require_library() -> None:
    if importlib.util.find_spec("huggingface_hub") is None:
        msg = (
            "The Hub needs huggingface-hub, which is not installed. "
            "Run: pip install 'cellweave-core[hub]'."
        )
        raise MissingDependencyError(msg)


def _first_line(error: BaseException) -> str:
    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return line if line.endswith(".") else f"{line}."
