"""Patches: features in their order along the genome, cut into pieces of one width.

Rule (scMamba, scPlantFormer, scCLIP): the cell's vector in genomic order is cut into patches of
``width`` features; a token is one patch with its ``width`` values. The last patch is filled with
zeros; with ``by_chromosome`` (scCLIP) no patch crosses the border of a chromosome. Empty patches
are left out unless asked for, so that sparse cells stay short.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import scipy.sparse as sp

from cellweave.errors import DataError
from cellweave.kernels.patching import count_patches, write_patches
from cellweave.tokenizing.base import Body, SparseTokenizer
from cellweave.tokenizing.frame import Frame
from cellweave.tokenizing.rows import Rows
from cellweave.tokenizing.table import TokenTable, table_from_names

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["PatchTokenizer", "genomic_order"]

_PARTS = ("chrom", "chromStart")


@dataclass(kw_only=True, eq=False)
class PatchTokenizer(SparseTokenizer):
    """Cut each cell's features, in genomic order, into patches.

    Parameters
    ----------
    width
        Features of a patch.
    order
        ``"genome"`` sorts by ``var["chrom"]`` and ``var["chromStart"]``; ``"data"`` keeps the
        order of the data.
    by_chromosome
        Start a new patch at every chromosome.
    keep_empty
        Give every cell every patch, also those without a value.
    target_sum, log1p
        Normalise each cell to this sum (0: not), then take ``log1p``.
    """

    component: ClassVar[str] = "patch"

    width: int = 256
    order: str = "genome"
    by_chromosome: bool = False
    keep_empty: bool = False
    target_sum: float = 0.0
    log1p: bool = True

    def _problems(self) -> list[str]:
        problems = super()._problems()
        if self.width < 1:
            problems.append(f"width={self.width!r}; expected at least 1")
        if self.order not in ("genome", "data"):
            problems.append(f"order={self.order!r}; expected 'genome' or 'data'")
        if self.by_chromosome and self.order != "genome":
            problems.append("by_chromosome=True needs order='genome'")
        if self.overflow == "sample":
            problems.append("overflow='sample' is not defined for patches; expected 'truncate'")
        return problems

    def _learn(self, matrix: sp.csr_matrix, places: np.ndarray, adata: AnnData) -> None:
        if self.order == "data":
            return
        missing = [name for name in _PARTS if name not in adata.var]
        if missing:
            msg = (
                f"{self.component!r} orders features by var['chrom'] and var['chromStart']; "
                f"missing: {', '.join(missing)}. Add them (cellweave links adds them from a GTF), "
                "or set order='data'."
            )
            raise DataError(msg)
        chromosomes = self._learning.setdefault("chromosomes", {})
        names = self._learning["features"][places]
        starts = adata.var["chromStart"].to_numpy(dtype=float)
        chromosomes.update(zip(names, zip(adata.var["chrom"].astype(str), starts)))

    def _finish(self) -> TokenTable:
        features = np.asarray(self._learning["features"], dtype=str)
        patch = np.arange(len(features)) // self.width
        place = np.arange(len(features)) % self.width
        if self.order == "genome":
            found = [self._learning["chromosomes"][f] for f in features]
            order, chromosome = genomic_order([c for c, _ in found], [s for _, s in found])
            features = features[order]
            if self.by_chromosome:
                patch, place = _patches_within(chromosome[order], self.width)
        n_patches = int(patch.max(initial=-1)) + 1
        shell = table_from_names(
            [f"<patch:{p}>" for p in range(n_patches)], context=self._learnt_context()
        )
        # Ids are those of patches; features get places of their own above them.
        return TokenTable(
            vocabulary=shell.vocabulary,
            features=features,
            ids=np.arange(len(features), dtype=np.int32),
            context=shell.context,
            numbers={"patch": patch.astype(np.int64), "place": place.astype(np.int64)},
            facts={"first_patch": int(shell.ids[0]) if n_patches else 0, "n_patches": n_patches},
        )

    def _encoded(self, rows: Rows, frame: Frame) -> Body:
        numbers, facts = self.table.numbers, self.table.facts
        patch_of = rows.by_column(numbers["patch"], missing=-1)
        place_of = rows.by_column(numbers["place"], missing=0)
        counts = count_patches(rows.indptr, rows.indices, rows.data, patch_of)
        if self.keep_empty:
            counts = np.full(rows.n, facts["n_patches"], dtype=np.int64)
        body = self._laid_out(counts, frame)
        body.values = np.zeros((len(body.ids), self.width), dtype=np.float32)
        body.positions = np.zeros(len(body.ids), dtype=np.int32)
        write_patches(
            rows.indptr, rows.indices, self._scaled(rows), patch_of, place_of,
            facts["first_patch"], body.starts, body.lengths, self.keep_empty,
            body.ids, body.values, body.positions,
        )  # fmt: skip
        return body

    def _scaled(self, rows: Rows) -> np.ndarray:
        data = rows.data
        if self.target_sum > 0:
            total = np.where(rows.totals > 0, rows.totals, 1)
            scale = (self.target_sum / total).astype(np.float32)
            data = data * np.repeat(scale, np.diff(rows.indptr))
        return np.log1p(data) if self.log1p else data

    def patch_features(self) -> Mapping[int, list[str]]:
        """Return the features of each patch token, by id, in the order of its values."""
        table = self.table
        found: dict[int, list[str]] = {}
        for name, patch in zip(table.features, table.numbers["patch"]):
            found.setdefault(int(table.facts["first_patch"] + patch), []).append(str(name))
        return found

    def decode(self, tokens: Any) -> sp.csr_matrix:
        """Return the values of each cell as CSR, columns in the order of ``table.features``."""
        table, facts = self.table, self.table.facts
        width = facts["n_patches"] * self.width
        patch = tokens.ids.astype(np.int64) - facts["first_patch"]
        body = (patch >= 0) & (patch < facts["n_patches"])
        cell = np.repeat(np.arange(tokens.n_cells), tokens.lengths)[body]
        token, place = np.nonzero(tokens.values[body])
        column = patch[body][token] * self.width + place
        shape = (tokens.n_cells, width)
        wide = sp.csr_matrix((tokens.values[body][token, place], (cell[token], column)), shape)
        own = table.numbers["patch"] * self.width + table.numbers["place"]
        return sp.csr_matrix(wide[:, own])


def genomic_order(chromosomes: Any, starts: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return the order along the genome (numbered chromosomes first, by number) and codes."""
    names = np.asarray(chromosomes, dtype=str)
    distinct = sorted(set(names.tolist()), key=_chromosome_key)
    code = {name: i for i, name in enumerate(distinct)}
    codes = np.array([code[name] for name in names], dtype=np.int64)
    return np.lexsort((np.asarray(starts, dtype=float), codes)), codes


def _chromosome_key(name: str) -> tuple[int, int, str]:
    short = name.lower().removeprefix("chr")
    return (0, int(short), "") if short.isdecimal() else (1, 0, short)


def _patches_within(chromosome: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Return patches that start anew where the chromosome changes, and places in them."""
    n = len(chromosome)
    first = np.flatnonzero(np.r_[True, np.diff(chromosome) != 0]) if n else np.empty(0, int)
    lengths = np.diff(np.append(first, n))
    within = np.arange(n) - np.repeat(first, lengths)
    patches = -(-lengths // width)
    before = np.concatenate([[0], np.cumsum(patches)[:-1]]).astype(np.int64) if n else first
    return np.repeat(before, lengths) + within // width, within % width
