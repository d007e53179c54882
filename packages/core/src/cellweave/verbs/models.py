"""Load a model folder or a published checkpoint, and embed cells with it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cellweave.errors import UnreadableFileError, one_of
from cellweave.plugins import get_plugin_manager
from cellweave.records.component import ComponentKind

if TYPE_CHECKING:
    from anndata import AnnData

    from cellweave.contracts import Model
    from cellweave.records import Embedding

__all__ = ["embed", "load"]

_MOST_LOOKED_INTO = 100


def load(
    path: str | Path,
    *,
    family: str | None = None,
    revision: str | None = None,
    offline: bool = False,
) -> Model:
    """Load a model folder of ours, or the files that a model's authors publish.

    Parameters
    ----------
    path
        Folder or file as downloaded, or ``owner/name`` on the Hugging Face Hub where there is
        nothing at such a path.
    family
        Registry name of the family; recognised from file names and headers when not given.
    revision
        Branch, tag or commit on the Hub.
    offline
        Take what the Hub's local cache holds and touch no network.

    Examples
    --------
    >>> import cellweave
    >>> model = cellweave.load("Geneformer-V2-104M")  # doctest: +SKIP
    """
    path = _local(path, revision=revision, offline=offline)
    registry = get_plugin_manager().registry(ComponentKind.MODEL)
    if not path.exists():
        msg = f"There is nothing at {str(path)!r}. Give the folder or file as downloaded."
        raise UnreadableFileError(msg)
    if family is not None:
        chosen: Model = registry[family].load().load(path)
        return chosen
    families: dict[str, Any] = {}
    for name in registry:
        component = registry[name]
        if not component.missing_modules():
            families[name] = component.load()
            if families[name].recognises(path):
                model: Model = families[name].load(path)
                return model
    found = one_of(p.name for p in path.iterdir()) if path.is_dir() else path.name
    msg = (
        f"No installed model family recognises {str(path)!r}, which holds: {found}."
        f"{_inside(path, families)} Installed families: {one_of(registry)}. See `cellweave models` "
        "for what each needs."
    )
    raise UnreadableFileError(msg)


def _inside(path: Path, families: Mapping[str, Any]) -> str:
    """Name a folder one level below that a family does recognise: the usual slip."""
    below = sorted(p for p in path.iterdir() if p.is_dir()) if path.is_dir() else []
    for folder in below[:_MOST_LOOKED_INTO]:
        for name, family in families.items():
            if family.recognises(folder):
                return f" {str(folder)!r} looks like {name}: give that."
    return ""


def _local(path: str | Path, *, revision: str | None, offline: bool) -> Path:
    """Return the path, or that of the fetched files when it names a model on the Hub."""
    from cellweave.verbs.hub import fetch_model, is_hub_id

    if not Path(path).exists() and is_hub_id(str(path)):
        return fetch_model(str(path), revision=revision, offline=offline)
    if revision is not None:
        msg = f"revision is {revision!r} but {str(path)!r} is not 'owner/name' on the Hub."
        raise UnreadableFileError(msg + " Leave it out for local files.")
    return Path(path)


def embed(
    adata: AnnData, model: str | Path | Model, *, batch_size: int = 32, device: str = "cpu"
) -> Embedding:
    """Return one vector a cell, in input order, from a loaded model or a path."""
    loaded = load(model) if isinstance(model, str | Path) else model
    return loaded.embed(adata, batch_size=batch_size, device=device)
