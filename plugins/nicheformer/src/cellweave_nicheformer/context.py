"""Species, assay and modality of a cell: which token each is, by the names that data use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from cellweave.errors import ConfigError, DataError, closest, one_of

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["CONTEXT_IDS", "N_AUXILIARY", "auxiliary_names", "context_of", "technologies_of"]

N_AUXILIARY = 30
_SPECIAL = {0: "<mask>", 1: "<pad>", 2: "<cls>"}
CONTEXT_IDS: Mapping[str, Mapping[str, int]] = {
    "specie": {"human": 5, "mouse": 6},
    "assay": {
        "MERFISH": 7,
        "CosMx": 8,
        "Xenium": 9,
        "10x 5' v2": 10,
        "10x 3' v3": 11,
        "10x 3' v2": 12,
        "10x 5' v1": 13,
        "10x 3' v1": 14,
        "10x 3' transcription profiling": 15,
        "10x 5' transcription profiling": 16,
        "CITE-seq": 17,
        "Smart-seq v4": 18,
    },
    "modality": {"dissociated": 3, "spatial": 4},
}
_OTHER_NAMES = {
    "homo sapiens": "human",
    "mus musculus": "mouse",
    "nanostring cosmx": "CosMx",
    "nanostring digital spatial profiling": "CosMx",
    "10x transcription profiling": "10x 3' transcription profiling",
}
_OTHER_COLUMNS = {"specie": ("species", "organism")}
_OF_ASSAY = {"MERFISH": "merfish", "CosMx": "cosmx", "Xenium": "xenium"}


def auxiliary_names() -> list[str]:
    """Return the names of the 30 tokens that are no gene."""
    names = dict(_SPECIAL)
    for values in CONTEXT_IDS.values():
        names |= {token: f"<{name}>" for name, token in values.items()}
    return [names.get(i, f"<auxiliary {i}>") for i in range(N_AUXILIARY)]


def context_of(
    adata: AnnData, columns: tuple[str, ...], given: Mapping[str, str | None]
) -> pd.DataFrame:
    """Return the context of each cell by the names above.

    Parameters
    ----------
    adata
        The cells.
    columns
        Which of ``specie``, ``assay`` and ``modality``.
    given
        One value for all cells, instead of the column.
    """
    found = pd.DataFrame(index=adata.obs_names)
    problems = []
    for column in columns:
        values = _values(adata, column, given.get(column))
        if values is None:
            problems.append(f"there is no obs[{column!r}]")
            continue
        known = {_plain(name): name for name in CONTEXT_IDS[column]}
        known |= {str(token): name for name, token in CONTEXT_IDS[column].items()}
        known |= {k: v for k, v in _OTHER_NAMES.items() if v in CONTEXT_IDS[column]}
        spelt = {value: known.get(_plain(value)) for value in values.unique()}
        odd = [value for value, name in spelt.items() if name is None]
        if odd:
            problems.append(
                f"{column} {odd[0]!r} is unknown.{closest(str(odd[0]), CONTEXT_IDS[column])} It "
                f"knows {one_of(CONTEXT_IDS[column], limit=20)}"
            )
        found[column] = values.map(spelt).to_numpy()
    if problems:
        msg = (
            f"Nicheformer needs the context of each cell: {'; '.join(problems)}. Give them in obs, "
            "or for all cells as species=, assay= and modality=."
        )
        raise DataError(msg)
    return found


def technologies_of(
    context: pd.DataFrame, adata: AnnData, given: str | None, known: list[str]
) -> np.ndarray:
    """Return whose mean expression each cell is divided by."""
    if given is not None:
        names = np.full(adata.n_obs, given, dtype=object)
    elif len(known) == 1:
        names = np.full(adata.n_obs, known[0], dtype=object)
    elif "technology" in adata.obs:
        names = adata.obs["technology"].astype(str).str.lower().to_numpy(dtype=object)
    elif {"assay", "modality"} <= set(context):
        by_assay = context["assay"].map(_OF_ASSAY)
        dissociated = context["modality"] == "dissociated"
        names = by_assay.where(~dissociated, "dissociated").to_numpy(dtype=object)
    else:
        names = np.full(adata.n_obs, None, dtype=object)
    odd = [n for n in pd.unique(names) if n not in known]
    if odd:
        msg = (
            f"There is no mean expression for the technology {odd[0]!r}; there are those of "
            f"{one_of(known)}. Set technology=, or obs['technology'], to one of them."
        )
        raise ConfigError(msg)
    return names.astype(str)


def _values(adata: AnnData, column: str, given: str | None) -> pd.Series | None:
    if given is not None:
        return pd.Series([given] * adata.n_obs, dtype=str)
    for name in (column, *_OTHER_COLUMNS.get(column, ())):
        if name in adata.obs:
            return adata.obs[name].astype(str)
    return None


def _plain(name: object) -> str:
    return " ".join(str(name).lower().split()).removesuffix(".0")
