"""Which sample a cell came from, by its sample tags.

On log counts, each tag's cells fall into "without" and "with": two Gaussians are
fitted to every tag (EM, all tags at once). A cell with one tag is a singlet, with several a
doublet, with none a negative.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cellweave.errors import ConfigError, DataError
from cellweave.preparing import raw_values
from cellweave_protein.background import two_gaussians
from cellweave_protein.markers import is_hashtag

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

__all__ = ["assign_hashtags"]

DOUBLET, NEGATIVE = "doublet", "negative"


def assign_hashtags(
    adata: AnnData, *, tags: list[str] | None = None, min_probability: float = 0.5
) -> pd.DataFrame:
    """Return the sample of each cell: ``assignment``, ``n_tags`` and ``confidence``.

    Parameters
    ----------
    adata
        Raw counts with the tags among the features; not changed.
    tags
        Names of the tags; features named like tags (``HTO1``, ``Hashtag_2``) when not given.
    min_probability
        Least posterior probability with which a cell bears a tag.

    Returns
    -------
    pandas.DataFrame
        In input order. ``assignment`` is a tag, ``"doublet"`` or ``"negative"``; ``confidence``
        is the probability of the call, tags taken as independent.
    """
    import pandas as pd

    if not 0 < min_probability < 1:
        msg = f"Got min_probability={min_probability!r}. Expected a number between 0 and 1."
        raise ConfigError(msg)
    names = tags if tags is not None else [n for n in map(str, adata.var_names) if is_hashtag(n)]
    at = adata.var_names.get_indexer(names)
    if len(names) < 2 or (at < 0).any():
        missing = [n for n, i in zip(names, at) if i < 0]
        msg = (
            f"Got the sample tags {names!r}, of which {missing!r} are not in the data. Expected "
            "two or more tags among the features. Name them with tags=[…]."
        )
        raise DataError(msg)
    counts = raw_values(adata, modality="hashtags").toarray()[:, at]
    logs = np.log1p(counts.astype(np.float64))
    bears = _probabilities(logs)
    called = bears >= min_probability
    n_tags = called.sum(axis=1)
    labels = np.array([*names, DOUBLET, NEGATIVE], dtype=object)
    code = np.where(n_tags == 1, called.argmax(axis=1), np.where(n_tags > 1, -2, -1))
    certain = np.where(called, bears, 1 - bears).prod(axis=1)
    return pd.DataFrame(
        {
            "assignment": pd.Categorical(labels[code], categories=list(labels)),
            "n_tags": n_tags,
            "confidence": certain,
        },
        index=adata.obs_names,
    )


def _probabilities(logs: np.ndarray) -> np.ndarray:
    """Return for every cell and tag the probability of the upper of two Gaussians."""
    fit = two_gaussians(logs.T)
    resp_low = fit.responsibility_of_low(logs.T).T
    # Far below the lower mean a wide upper Gaussian would win: there a tag is surely absent.
    return np.where(logs <= fit.low.ravel(), 0.0, 1 - resp_low)
