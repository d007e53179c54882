"""Say how good an integration is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mudata import MuData

    from cellweave.records import Scores

__all__ = ["evaluate"]


def evaluate(
    mdata: MuData,
    *,
    use_rep: str,
    label_key: str = "cell_type",
    pairing: str | None = None,
    batch_key: str | None = None,
    metrics: Sequence[str] | None = None,
    seed: int = 0,
) -> Scores:
    """Score the embedding ``obsm[use_rep]`` of every modality.

    Parameters
    ----------
    mdata
        Data with the embedding written into each modality.
    use_rep
        The ``obsm`` key, e.g. ``"X_glue"``.
    label_key
        ``obs`` column of cell types; measures that need labels say so when it is absent.
    pairing
        ``"obs_names"`` when cells of equal name are the same cell, or the ``obs`` column of an
        id; ``None`` when the pairing is not known.
    batch_key
        ``obs`` column of batches.
    metrics
        Names of metrics; all that can be computed when not given.
    seed
        For measures that sample.
    """
    from cellweave.evaluation import evaluate as evaluate_all

    return evaluate_all(
        mdata,
        use_rep=use_rep,
        label_key=label_key,
        pairing=pairing,
        batch_key=batch_key,
        metrics=metrics,
        seed=seed,
    )
