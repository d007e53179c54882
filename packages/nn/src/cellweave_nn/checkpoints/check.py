"""What a user with weights can report: digests of files and tensors, shapes, one vector."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cellweave.storage.manifest import sha256_of

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["ModelCheck", "check_model", "example_cell"]

_GENES = 64
_SHOWN = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCheck:
    """Hold what was found.

    Parameters
    ----------
    family, facts
        Who read it, and what the model says of itself.
    keys
        What became of the published keys.
    files
        (path, bytes, sha256) of each file.
    tensors
        (name, shape, type, start of the sha256) of each tensor of our network.
    embedding
        First values of the vector of :func:`example_cell`.
    embedding_digest
        sha256 of the whole vector, rounded to four decimals.
    """

    family: str
    facts: dict[str, Any]
    keys: str
    files: list[tuple[str, int, str]]
    tensors: list[tuple[str, str, str, str]]
    embedding: list[float] = field(default_factory=list)
    embedding_digest: str = ""


def check_model(path: str | Path, *, family: str | None = None) -> ModelCheck:
    """Load a model, and say all that tells whether it is the published one, rightly read."""
    from cellweave.verbs.models import load

    path = Path(path)
    model: Any = load(path, family=family)
    vector = model.embed(example_cell(model), batch_size=1).values[0]
    network = getattr(model, "network", None) or getattr(model, "encoder", None)
    state = network.state_dict() if network is not None else {}
    return ModelCheck(
        family=model.family,
        facts=dict(getattr(model, "facts", {})),
        keys=str(getattr(model, "key_report", "not told")),
        files=_files(path),
        tensors=[_told(name, tensor) for name, tensor in state.items()],
        embedding=[round(float(v), 6) for v in vector[:_SHOWN]],
        embedding_digest=hashlib.sha256(np.round(vector, 4).astype("<f4").tobytes()).hexdigest(),
    )


def example_cell(model: Any) -> AnnData:
    """Return one cell of 64 genes spread over the vocabulary, with 64, 63 … 1 counts.

    A model that needs more of a cell gives it in ``example_context``, column of ``obs`` to value.
    """
    import anndata
    import pandas as pd

    if hasattr(model, "example_cell"):
        return model.example_cell()
    genes = _spread(_features(model.tokenizer))
    counts = np.arange(len(genes), 0, -1, dtype=np.float32)[None, :]
    context = getattr(model, "example_context", {})
    obs = pd.DataFrame({"n_counts": [float(counts.sum())], **context}, index=["example"])
    return anndata.AnnData(counts, obs=obs, var=pd.DataFrame({"ensembl_id": genes}, index=genes))


def _features(tokenizer: Any) -> np.ndarray:
    table = getattr(tokenizer, "table", None)
    if table is not None:
        return np.asarray(table.features, dtype=str)
    vocabulary = tokenizer.vocabulary
    special = set(vocabulary.special.values())
    return np.array([n for i, n in enumerate(vocabulary.names) if i not in special])


def _spread(names: np.ndarray) -> np.ndarray:
    at = np.unique(np.linspace(0, len(names) - 1, min(_GENES, len(names))).astype(int))
    return names[at]


def _files(path: Path) -> list[tuple[str, int, str]]:
    if path.is_file():
        return [(path.name, path.stat().st_size, sha256_of(path))]
    files = sorted(p for p in path.iterdir() if p.is_file())
    return [(p.name, p.stat().st_size, sha256_of(p)) for p in files]


def _told(name: str, tensor: Any) -> tuple[str, str, str, str]:
    plain = tensor.detach().cpu().contiguous()
    digest = hashlib.sha256(plain.float().numpy().tobytes()).hexdigest()[:16]
    return name, "×".join(map(str, plain.shape)), str(plain.dtype).removeprefix("torch."), digest
