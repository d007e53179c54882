"""Encode on a published gene list, whichever column of ``var`` names its genes.

Published models each know one list of symbols or of Ensembl ids, and data keep either in
``var_names`` or in a column. The column that names most known genes is taken.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from cellweave.errors import ConfigError, DataError, closest, one_of
from cellweave.tokenizing.rows import PlaceMemo, places_of, unchecked_csr_of

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

    from cellweave.records import Tokens
    from cellweave.tokenizing.base import SparseTokenizer

__all__ = ["ENSEMBL_COLUMNS", "SYMBOL_COLUMNS", "encode_known", "known_places", "without_version"]

SYMBOL_COLUMNS = ("feature_name", "gene_name", "gene_symbol", "gene_symbols", "symbol")
ENSEMBL_COLUMNS = ("ensembl_id", "gene_ids", "gene_id", "feature_id", "ensembl")
_VERSION = re.compile(r"^(ENS\w+)\.\d+$")


def encode_known(
    tokenizer: SparseTokenizer,
    adata: AnnData,
    *,
    columns: Sequence[str] = SYMBOL_COLUMNS,
    kind: str = "human gene symbols",
    spelling: Callable[[str], str] | None = None,
) -> Tokens:
    """Encode with the column of names that fits best; ``adata`` is not changed.

    Parameters
    ----------
    tokenizer
        Fitted, or on a published table. Its ``names_from``, when set, is the one column tried.
    adata
        The cells.
    columns
        Columns of ``var`` tried beside ``var_names``.
    kind
        What the list holds, for errors.
    spelling
        Turns a name in the data into the list's spelling.
    """
    places = known_places(
        adata,
        tokenizer.table.features,
        columns=[tokenizer.names_from] if tokenizer.names_from else [None, *columns],
        kind=kind,
        spelling=spelling,
        memo=tokenizer.memo,
    )
    names = np.asarray(adata.obs_names, dtype=str)
    matrix, layer = unchecked_csr_of(adata, tokenizer.layer)
    return tokenizer.encode_matrix(matrix, places, names=names, obs=adata.obs, layer=layer)


def known_places(
    adata: AnnData,
    features: np.ndarray,
    *,
    columns: Sequence[str | None],
    kind: str,
    spelling: Callable[[str], str] | None = None,
    memo: PlaceMemo | None = None,
) -> np.ndarray:
    """Return the place of each column of ``X`` in ``features``, ``-1`` where it is not there.

    ``None`` among ``columns`` means ``var_names``; a single column must be there. ``memo``
    remembers the answer for the next part of the same data; it belongs to one tokenizer.
    """
    tried = [_names_in(adata, c) for c in columns if _is_there(adata, c, only=len(columns) == 1)]
    if memo is not None and (kept := memo.get(tried, features)) is not None:
        return kept
    found = np.full(adata.n_vars, -1)
    for names in tried:
        spelt = map(str, names) if spelling is None else (spelling(str(n)) for n in names)
        places = places_of(np.array(list(spelt), dtype=str), features)
        if (places >= 0).sum() > (found >= 0).sum():
            found = places
    if (found < 0).all():
        shown = ", ".join(map(repr, list(adata.var_names[:3])))
        msg = (
            f"None of {adata.n_vars} features is a gene that the model knows ({shown} …). Expected "
            f"{kind} such as {str(features[0])!r}. Map names with cellweave_rna.map_genes."
        )
        raise DataError(msg)
    if memo is not None:
        memo.keep(tried, features, found)
    return found


def _is_there(adata: AnnData, column: str | None, *, only: bool) -> bool:
    """Tell whether ``var`` has the column; the only one must be there."""
    if column is None or column in adata.var:
        return True
    if only:
        msg = f"var has no column {column!r}.{closest(column, adata.var.columns)} It has: "
        raise ConfigError(msg + f"{one_of(adata.var.columns)}. Set names_from to one of them.")
    return False


def _names_in(adata: AnnData, column: str | None) -> pd.Index:
    import pandas as pd

    return adata.var_names if column is None else pd.Index(adata.var[column].astype(str))


def without_version(name: str) -> str:
    """Drop the version of an Ensembl id: ``ENSG00000141510.18`` to ``ENSG00000141510``."""
    return _VERSION.sub(r"\1", name) if "." in name else name
