"""Gene networks from cells, embeddings and models, scored against a network that is known.

Every way gives one score to each pair regulator → target; what each must beat is chance and the
absolute co-expression. The network is inferred from the cells of ``fit``; ``evaluate`` scores it
against the table, and against itself inferred from cells it has not seen. Scores over chance and
early precision are those of BEELINE (Pratapa et al. 2020).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from cellweave.errors import ConfigError, DataError, closest, one_of
from cellweave.records import Prediction, Provenance, Score, Scores
from cellweave_tasks.differences import difference_sentence, paired_difference
from cellweave_tasks.features import features_of, fingerprints
from cellweave_tasks.network_scorers import SCORERS, Asked, score_pairs
from cellweave_tasks.network_tables import Candidates, candidates_of, read_network
from cellweave_tasks.programmes import Programmes, programmes_of
from cellweave_tasks.ranking import binary_scores, win_shares
from cellweave_tasks.records import arguments_of, need_fit, provenance_of
from cellweave_tasks.splits import refuse_leaks
from cellweave_tasks.token_models import model_name

if TYPE_CHECKING:
    from anndata import AnnData

    from cellweave_tasks.gene_sets import Sets

__all__ = ["NetworkTask"]

_BASELINES = ("coexpression", "random")
_NEED_MODEL = ("attention", "deletion")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fitted:
    """The scores of all pairs by method, rows regulators; and what they were inferred from."""

    pairs: Candidates
    scores: Mapping[str, np.ndarray]
    cells: np.ndarray


class NetworkTask:
    """Infer which gene regulates which.

    Parameters
    ----------
    network
        Table of known links (csv, tsv, parquet) with columns ``source`` and ``target``; its genes
        are those asked about. Without one, nothing is scored.
    method
        ``"embedding"`` (cosine of gene embeddings), ``"attention"``, ``"deletion"`` (of the
        regulator, in a model), ``"links"`` (a given table with ``weight``), ``"partial"`` (partial
        correlation), ``"coexpression"``.
    use_rep
        For ``"embedding"``: a key of ``varm``, or an ``.npz`` of an ``Embedding``.
    model
        For ``"attention"`` and ``"deletion"``: a folder, or a loaded model.
    links
        For ``"links"``: the table of scored links.
    directed
        Whether ``network`` tells regulator from target.
    max_genes
        Without ``network``: so many most variable genes are asked about.
    max_cells
        A model sees at most so many cells.
    n_edges
        How many of the strongest links ``predict`` returns.
    batch_size, device
        Cells that a model sees at a time, and where.
    seed
        Of what is random.

    Examples
    --------
    >>> task = NetworkTask(method="partial")
    >>> task.name
    'partial'
    """

    def __init__(
        self,
        *,
        network: str | None = None,
        method: str = "embedding",
        use_rep: str | None = "PCs",
        model: Any = "",
        links: str | None = None,
        directed: bool = True,
        max_genes: int = 2000,
        max_cells: int = 200,
        n_edges: int = 10_000,
        batch_size: int = 32,
        device: str = "cpu",
        seed: int = 0,
    ) -> None:
        self._parameters: dict[str, Any] = arguments_of(locals()) | {"model": model_name(model)}
        if method not in SCORERS:
            msg = f"Unknown method {method!r}.{closest(method, SCORERS)} Available: "
            raise ConfigError(msg + f"{one_of(SCORERS)}.")
        if (method in _NEED_MODEL and model in ("", None)) or (method == "links" and not links):
            what = "a table by `links`" if method == "links" else "a model by `model`"
            msg = f"method={method!r} needs {what}. Name it."
            raise ConfigError(msg)
        self.network, self.method, self.use_rep, self.model = network, method, use_rep, model
        self.links, self.directed = links, directed
        self.max_genes, self.max_cells, self.n_edges = max_genes, max_cells, n_edges
        self.batch_size, self.device, self.seed = batch_size, device, seed
        self._fitted: _Fitted | None = None

    @property
    def name(self) -> str:
        """Name the method and what it reads, as in tables."""
        read = {"embedding": self.use_rep, "links": self.links}.get(self.method)
        read = model_name(self.model) if self.method in _NEED_MODEL else read
        return f"{self.method} of {read}" if read else self.method

    def fit(self, adata: AnnData) -> Self:
        """Infer the network from the cells."""
        pairs = candidates_of(adata, self.network, directed=self.directed, max_genes=self.max_genes)
        methods = dict.fromkeys((self.method, *_BASELINES))
        self._fitted = _Fitted(
            pairs=pairs,
            scores={m: self._score(m, adata, pairs) for m in methods},
            cells=fingerprints(features_of(adata, None)),
        )
        return self

    def predict(self, adata: AnnData) -> Prediction:
        """Return the strongest links among the genes that ``adata`` measures, strongest first.

        ``names`` are ``"A -> B"``; ``values`` their scores; ``confidence`` the share of all pairs
        that score lower.
        """
        table = self.table(adata)
        return Prediction(
            names=(table["source"] + " -> " + table["target"]).to_numpy(dtype=str),
            values=table["score"].to_numpy(dtype=np.float32),
            confidence=table["confidence"].to_numpy(dtype=np.float32),
            provenance=self._provenance(),
        )

    def table(self, adata: AnnData | None = None) -> pd.DataFrame:
        """Return source, target, score and confidence of the strongest links, strongest first."""
        fitted = need_fit(self._fitted, "NetworkTask")
        pairs = fitted.pairs
        asked = pairs.asked.copy()
        if adata is not None:
            names = np.asarray(adata.var_names, dtype=str)
            asked &= np.isin(pairs.regulators, names)[:, None] & np.isin(pairs.targets, names)
        rows, columns = np.nonzero(asked)
        values = fitted.scores[self.method][rows, columns]
        order = np.argsort(-values, kind="stable")[: self.n_edges]
        return pd.DataFrame(
            {
                "source": pairs.regulators[rows[order]],
                "target": pairs.targets[columns[order]],
                "score": values[order],
                "confidence": 1 - np.arange(1, len(order) + 1) / max(len(values), 1),
            }
        )

    def evaluate(self, adata: AnnData) -> Scores:
        """Score the network against the table, and on cells that ``fit`` has not seen.

        ``reproducibility`` is the rank correlation with the scores inferred from ``adata``.
        """
        fitted = need_fit(self._fitted, "NetworkTask")
        pairs = fitted.pairs
        refuse_leaks(train_cells=fitted.cells, test_cells=fingerprints(features_of(adata, None)))
        if pairs.truth is None:
            msg = "No known network was given. Name a table by `network` to be scored against."
            raise DataError(msg)
        truth = pairs.truth[pairs.asked]
        items: list[Score] = []
        wins = {}
        for method, table in fitted.scores.items():
            shown = self.name if method == self.method else method
            items += binary_scores(truth, table[pairs.asked], method=shown, seed=self.seed)
            items.append(self._reproducibility(method, shown, adata, fitted))
            wins[shown] = _wins_by_regulator(pairs, table)
        text, summary = self._headline(wins)
        sizes = {"n_pairs": len(truth), "n_true": int(truth.sum())}
        return Scores(
            items=tuple(items),
            provenance=self._provenance(),
            summary={"headline": text, **summary, **sizes},
        )

    def curves(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Return truth and score of every pair by method, for pictures."""
        fitted = need_fit(self._fitted, "NetworkTask")
        if fitted.pairs.truth is None:
            return {}
        asked = fitted.pairs.asked
        return {
            self.name if m == self.method else m: (fitted.pairs.truth[asked], table[asked])
            for m, table in fitted.scores.items()
        }

    def programmes(
        self,
        adata: AnnData,
        *,
        n_neighbors: int = 10,
        resolution: float = 1.0,
        min_genes: int = 5,
        gene_sets: Sets | None = None,
    ) -> Programmes:
        """Cluster the genes by Leiden on the strongest links of each; enriched sets, if given.

        Parameters
        ----------
        adata
            Whose genes are the universe of the enrichment.
        n_neighbors
            Links kept a gene.
        resolution
            Of Leiden; higher for more programmes.
        min_genes
            Smaller clusters are left out.
        gene_sets
            GMT file, or name to genes.
        """
        fitted = need_fit(self._fitted, "NetworkTask")
        return programmes_of(
            fitted.pairs,
            fitted.scores[self.method],
            np.asarray(adata.var_names, dtype=str),
            n_neighbors=n_neighbors,
            resolution=resolution,
            min_genes=min_genes,
            gene_sets=gene_sets,
            seed=self.seed,
        )

    def _score(self, method: str, adata: AnnData, pairs: Candidates) -> np.ndarray:
        asked = Asked(
            adata=adata,
            regulators=pairs.regulators,
            targets=pairs.targets,
            use_rep=self.use_rep,
            model=self.model,
            links=read_network(self.links) if method == "links" and self.links else None,
            max_cells=self.max_cells,
            batch_size=self.batch_size,
            device=self.device,
            seed=self.seed,
        )
        return score_pairs(method, asked)

    def _reproducibility(self, method: str, shown: str, adata: AnnData, fitted: _Fitted) -> Score:
        value, note = None, "does not depend on the cells"
        missing = [
            g
            for g in {*fitted.pairs.regulators, *fitted.pairs.targets}
            if g not in set(map(str, adata.var_names))
        ]
        if method == "random":
            value, note = 0.0, "by definition"
        elif missing:
            note = f"{len(missing)} genes are not measured in the test, e.g. {min(missing)!r}"
        elif method not in ("embedding", "links"):
            asked = fitted.pairs.asked
            again = self._score(method, adata, fitted.pairs)[asked]
            value, note = float(spearmanr(fitted.scores[method][asked], again).statistic), ""
            value, note = (value, note) if np.isfinite(value) else (0.0, "constant scores")
        return Score(
            metric="reproducibility",
            value=value,
            method=shown,
            best=1.0,
            chance=0.0,
            seed=self.seed,
            note=note,
        )

    def _headline(self, wins: Mapping[str, np.ndarray]) -> tuple[str, dict[str, Any]]:
        rivals = [n for n in wins if n != self.name]
        best = max(rivals, key=lambda n: float(np.nanmean(wins[n])))
        gap = paired_difference(wins[self.name], wins[best], seed=self.seed)
        metric = "auroc per regulator"
        text = difference_sentence(gap, self.name, f"the best baseline, {best}", metric)
        return text, {"best_baseline": best, **gap.to_dict()}

    def _provenance(self) -> Provenance:
        return provenance_of("tasks.networks", self._parameters, self.seed)


def _wins_by_regulator(pairs: Candidates, table: np.ndarray) -> np.ndarray:
    """Return the AUROC of each regulator over its targets, NaN where all or none is true."""
    assert pairs.truth is not None
    found = np.full(len(pairs.regulators), np.nan)
    for i, (asked, truth) in enumerate(zip(pairs.asked, pairs.truth, strict=True)):
        if 0 < truth[asked].sum() < asked.sum():
            found[i] = win_shares(truth[asked], table[i, asked]).mean()
    return found
