"""What a step minimises: every term of the loss but the adversary's, on one minibatch.

With n_k features of modality k and N_k = max(n_k, floor)

    sum_k w_k [ sum_features -log p(x_k | u_k, V) + KL(q(u_k) | N(0, 1)) ] / N_k
      + lam_graph K [ g_nll + KL(q(V) | N(0, 1)) / |V|^2 ]
      + lam_anchor mean_anchors max(1 - cos(u_a, u_b) - margin, 0)
      + terms of known labels and of cells measured twice
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from cellweave_glue import fused
from cellweave_glue.edges import EdgeBatch, EdgeSampler
from cellweave_glue.graph import GuidanceGraph, torch_sparse
from cellweave_glue.model import Gaussian, GlueNetwork
from cellweave_glue.sparse import SparseRows

if TYPE_CHECKING:
    import scipy.sparse as sp
    from torch import Tensor

    from cellweave_glue.cells import CellData
    from cellweave_glue.settings import TrainingSettings

__all__ = ["Encoded", "Objective", "total"]

Rows = Mapping[str, "Tensor"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoded:
    """A minibatch encoded once: posteriors, and the mean vectors of both ends of each anchor."""

    posteriors: Mapping[str, Gaussian]
    anchored: tuple[tuple[Tensor, Tensor], ...]

    def means(self) -> Tensor:
        """Return the mean vectors of all cells, modality after modality."""
        return torch.cat([q.mean for q in self.posteriors.values()])


class Objective:
    """Encode minibatches and weigh the terms.

    Parameters
    ----------
    network
        All networks but the discriminator.
    cells
        Modality to its cells, in the order of the graph.
    graph
        The guidance graph.
    partners
        For pairs of modalities, the row in the second of each cell of the first, or -1.
    """

    def __init__(
        self,
        network: GlueNetwork,
        cells: Mapping[str, CellData],
        graph: GuidanceGraph,
        settings: TrainingSettings,
        *,
        partners: Mapping[tuple[str, str], Tensor],
    ) -> None:
        self.network = network
        self.cells = cells
        self.graph = graph
        self.settings = settings
        self.names = graph.modalities
        self._partners = partners
        self._sizes = [len(graph.features[m]) for m in self.names]
        adjacency = graph.adjacency()
        self._adjacency = torch_sparse(adjacency, device=settings.device)
        self._transposed = torch_sparse(adjacency.T.tocsr(), device=settings.device)
        self._edges = EdgeSampler(
            graph, n_negatives=settings.n_negatives, n_batches=32, device=settings.device
        )
        self._anchors: dict[tuple[str, str], SparseRows] = {}

    def set_anchors(self, anchors: Mapping[tuple[str, str], sp.csr_matrix]) -> None:
        """Take the pairs of cells that are held together."""
        device = self.settings.device
        self._anchors = {}
        for (a, b), matrix in anchors.items():
            self._anchors[a, b] = SparseRows.from_matrix(matrix, device=device)
            self._anchors[b, a] = SparseRows.from_matrix(matrix.T, device=device)

    # -- cells --------------------------------------------------------------------------------

    def encode(
        self, modality: str, rows: Tensor, generator: torch.Generator | None = None
    ) -> Gaussian:
        """Return the posterior of some cells; dropout only where a generator is given."""
        posterior: Gaussian = self.network.encoder(modality)(
            self.cells[modality].inputs[rows], generator
        )
        return posterior

    def encode_minibatch(self, rows: Rows, generator: torch.Generator) -> Encoded:
        """Encode a minibatch and the cells drawn as anchors of its cells, each modality at once."""
        ends: list[tuple[str, Tensor, str, slice]] = []
        wanted = {m: [rows[m]] for m in self.names}
        lengths = {m: len(rows[m]) for m in self.names}
        for (a, b), anchors in self._anchors.items():
            has, other = anchors.draw(rows[a], generator)
            if len(has) > 1:
                ends.append((a, has, b, slice(lengths[b], lengths[b] + len(has))))
                wanted[b].append(other)
                lengths[b] += len(has)
        found = {m: self.encode(m, torch.cat(wanted[m]), generator) for m in self.names}
        return Encoded(
            posteriors={m: _first(found[m], len(rows[m])) for m in self.names},
            anchored=tuple((found[a].mean[has], found[b].mean[at]) for a, has, b, at in ends),
        )

    # -- features -----------------------------------------------------------------------------

    def feature_posterior(self) -> Gaussian:
        """Return the posterior of all feature vectors, in vertex order."""
        posterior: Gaussian = self.network.graph(self._adjacency, self._transposed)
        return posterior

    def _graph_terms(self, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Return a draw of the feature vectors and the terms of the graph."""
        s = self.settings
        v, divergence = self.network.graph.sample(self._adjacency, self._transposed, generator)
        scale = s.lam_graph * len(self.names)
        terms = {
            "graph": scale * edge_loss(v, self._edges.draw(generator)),
            "graph_kl": (scale * s.lam_kl / self.graph.n_vertices**2) * divergence,
        }
        return v, terms

    # -- the terms ----------------------------------------------------------------------------

    def terms(self, rows: Rows, encoded: Encoded, generator: torch.Generator) -> dict[str, Tensor]:
        """Return every weighted term."""
        s = self.settings
        v, terms = self._graph_terms(generator)
        vectors = dict(zip(self.names, torch.split(v, self._sizes)))
        samples = {m: q.sample(generator) for m, q in encoded.posteriors.items()}
        for m in self.names:
            n_k = len(vectors[m])
            floor = max(n_k, s.feature_floor)
            nll = self._data_loss(m, samples[m], vectors[m], rows[m])
            terms[f"{m}_nll"] = nll * (n_k / floor)
            divergence = encoded.posteriors[m].divergence()
            terms[f"{m}_kl"] = divergence * (s.lam_kl / len(rows[m]) / floor)
        terms |= self._label_term(rows, samples)
        terms |= self._pair_terms(rows, vectors, generator)
        return terms | self._anchor_term(encoded)

    def _data_loss(self, modality: str, u: Tensor, v: Tensor, rows: Tensor) -> Tensor:
        cells = self.cells[modality]
        loss: Tensor = self.network.decoder(modality).loss(
            u, v, cells.batch[rows], cells.values.take(rows), cells.log_library[rows]
        )
        return loss

    def _label_term(self, rows: Rows, samples: Rows) -> dict[str, Tensor]:
        """Return the loss of the classifier on cells whose label is known."""
        if self.network.classifier is None:
            return {}
        labels = torch.cat([self.cells[m].label[rows[m]] for m in self.names])
        known = labels >= 0
        if not known.any():
            return {}
        logits = self.network.classifier(torch.cat([samples[m] for m in self.names])[known])
        loss = functional.cross_entropy(logits, labels[known])
        return {"label": self.settings.lam_label * loss}

    def _pair_terms(
        self, rows: Rows, vectors: Rows, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Return the terms of cells measured in two modalities.

        Each explains the other's values from its own vector, and their vectors point one way.
        """
        cross, apart = [], []
        for (a, b), partner in self._partners.items():
            mine = rows[a][partner[rows[a]] >= 0]
            if len(mine) < 2:
                continue
            theirs = partner[mine]
            q_a = self.encode(a, mine, generator)
            q_b = self.encode(b, theirs, generator)
            cross.append(self._data_loss(b, q_a.sample(generator), vectors[b], theirs))
            cross.append(self._data_loss(a, q_b.sample(generator), vectors[a], mine))
            apart.append(1 - functional.cosine_similarity(q_a.mean, q_b.mean).mean())
        if not cross:
            return {}
        lam = self.settings.lam_pair
        return {"cross": lam * torch.stack(cross).sum(), "apart": lam * torch.stack(apart).sum()}

    def _anchor_term(self, encoded: Encoded) -> dict[str, Tensor]:
        """Return how far cells point away from an anchor drawn for each, beyond the margin.

        The margin leaves the fine match to the decoders: anchors are noisy one by one.
        """
        if not encoded.anchored:
            return {}
        gaps = [1 - functional.cosine_similarity(a, b) for a, b in encoded.anchored]
        apart = functional.relu(torch.cat(gaps) - self.settings.anchor_margin)
        return {"anchor": self.settings.lam_anchor * apart.mean()}


def total(terms: Mapping[str, Tensor]) -> Tensor:
    """Add up the terms."""
    return torch.stack([term.reshape(()) for term in terms.values()]).sum()


def edge_loss(v: Tensor, edges: EdgeBatch) -> Tensor:
    """Return the loss of telling edges from negatives, both weighing alike."""
    if fused.applies(v):
        return fused.edge_loss(v, edges)
    logits = (v[edges.sources] * v[edges.targets]).sum(1) * edges.signs
    positive, negative = logits[: edges.n_positive], logits[edges.n_positive :]
    loss = functional.softplus(-positive).mean()
    if len(negative):
        loss = 0.5 * (loss + functional.softplus(negative).mean())
    return loss


def _first(posterior: Gaussian, n: int) -> Gaussian:
    return Gaussian(mean=posterior.mean[:n], std=posterior.std[:n])
