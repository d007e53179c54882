"""Gene names: Ensembl ↔ symbol, aliases, version suffixes, orthologues; nothing lost silently.

A :class:`GeneTable` holds what is known of one species' genes, from a table or GTF of the user's.
:func:`map_genes` renames the features of an AnnData and sums those that come to share a name;
a :class:`MappingReport` lists what was mapped, lost and merged.
"""

from __future__ import annotations

import csv
import gzip
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal

import numpy as np
import scipy.sparse as sp

from cellweave.errors import ConfigError, DataError, UnreadableFileError, one_of
from cellweave.preparing import map_rows

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["GeneTable", "MappingReport", "map_genes", "read_orthologues", "sum_duplicates"]

_VERSION = re.compile(r"(ENS[A-Z]{0,4}[GTP]\d{6,})\.\d+")
_PATCH = re.compile(r"PATCH|HSCHR|^CHR_|_alt$|_fix$")
_ATTRIBUTE = re.compile(r'(\w+) "([^"]*)"')
_ID_COLUMNS = ("gene_id", "ensembl_id", "id", "ensembl")
_SYMBOL_COLUMNS = ("symbol", "gene_name", "gene_symbol", "name")
_CHROM_COLUMNS = ("chrom", "chromosome", "seqname")
_ALIAS_COLUMNS = ("alias", "aliases", "synonyms", "alias_symbol")


@dataclass(frozen=True, slots=True, kw_only=True)
class MappingReport:
    """Say what became of every feature.

    Parameters
    ----------
    mapped
        Old name to new name.
    lost
        Old name to the reason why it has no new one.
    merged
        New name to the old names that were summed into it (two or more).
    """

    mapped: Mapping[str, str] = field(default_factory=dict)
    lost: Mapping[str, str] = field(default_factory=dict)
    merged: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def counts(self) -> dict[str, int]:
        """Return how many were mapped, lost and merged."""
        parts = sum(len(names) for names in self.merged.values())
        return {"mapped": len(self.mapped), "lost": len(self.lost), "merged": parts}

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        merged = {name: list(old) for name, old in self.merged.items()}
        return {"mapped": dict(self.mapped), "lost": dict(self.lost), "merged": merged}

    def __str__(self) -> str:
        """Say it in one line."""
        found = self.counts()
        return (
            f"{found['mapped']} names mapped, {found['lost']} lost, {found['merged']} of them "
            f"summed into {len(self.merged)}."
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneTable:
    """Know the genes of one species.

    Parameters
    ----------
    symbols
        Ensembl id (no version) to symbol.
    aliases
        Former or other symbol to the current symbol, only where there is one answer.
    secondary
        Ensembl ids on patches and alternative haplotypes: where a symbol also has one id on a
        chromosome, that one is meant.
    """

    symbols: Mapping[str, str]
    aliases: Mapping[str, str] = field(default_factory=dict)
    secondary: frozenset[str] = frozenset()

    @classmethod
    def read(cls, path: str | Path) -> GeneTable:
        """Read a GTF, or a CSV/TSV with id and symbol columns (a header, or id and symbol first).

        Columns ``alias``, ``aliases`` or ``synonyms`` may hold other symbols, separated by ``|``.
        Files may be gzipped.
        """
        path = Path(path)
        try:
            with _opened(path) as file:
                plain = path.name.removesuffix(".gz")
                pairs = _gtf_genes(file) if plain.endswith((".gtf", ".gff")) else _table_genes(file)
                rows = list(pairs)
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            msg = f"Cannot read genes from {str(path)!r}: {error}. Give a GTF, CSV or TSV."
            raise UnreadableFileError(msg) from error
        if not rows:
            msg = f"{str(path)!r} holds no genes. Expected a GTF, or columns of id and symbol."
            raise UnreadableFileError(msg)
        symbols = {_bare(gene): symbol for gene, symbol, _, _ in rows}
        return cls(
            symbols=symbols,
            aliases=_unique_aliases(rows, set(symbols.values())),
            secondary=frozenset(_bare(gene) for gene, _, _, chrom in rows if _PATCH.search(chrom)),
        )

    def ids(self) -> tuple[dict[str, str], set[str]]:
        """Return symbol → Ensembl id where there is one answer, and the symbols with several."""
        found: dict[str, list[str]] = {}
        for gene, symbol in self.symbols.items():
            found.setdefault(symbol, []).append(gene)
        for symbol, genes in found.items():
            found[symbol] = [g for g in genes if g not in self.secondary] or genes
        several = {symbol for symbol, genes in found.items() if len(genes) > 1}
        return {s: genes[0] for s, genes in found.items() if len(genes) == 1}, several


def map_genes(
    adata: AnnData,
    *,
    to: Literal["symbol", "ensembl", "orthologue"],
    genes: GeneTable | None = None,
    orthologues: Mapping[str, Sequence[str]] | None = None,
    keep_unmapped: bool = False,
) -> tuple[AnnData, MappingReport]:
    """Return new data under other gene names, features of one name summed; and the report.

    Parameters
    ----------
    adata
        Raw values; ``X`` and every layer are summed. Not changed.
    to
        ``"symbol"``, ``"ensembl"``, or ``"orthologue"`` (the other species' names).
    genes
        What is known of the genes; needed for ``"symbol"`` and ``"ensembl"``.
    orthologues
        Gene to its orthologues, for ``"orthologue"``; genes with several are lost, and say so.
    keep_unmapped
        Keep features without a new name under their old one.
    """
    if to not in ("symbol", "ensembl", "orthologue"):
        msg = f"to={to!r}. Expected 'symbol', 'ensembl' or 'orthologue'."
        raise ConfigError(msg)
    needed = orthologues if to == "orthologue" else genes
    if needed is None:
        name = "orthologues" if to == "orthologue" else "genes"
        msg = f"to={to!r} needs {name}. Read them, e.g. with GeneTable.read or read_orthologues."
        raise ConfigError(msg)
    old = [str(name) for name in adata.var_names]
    if to == "orthologue":
        found = {name: _orthologue(name, orthologues or {}) for name in set(old)}
    else:
        found = _renamed(set(old), genes or GeneTable(symbols={}), to)
    new = [found[name] for name in old]
    lost = {o: why for o, (n, why) in zip(old, new) if n is None}
    names = [o if n is None and keep_unmapped else n for o, (n, _) in zip(old, new)]
    made, merged = _summed(adata, names, old)
    mapped = {o: n for o, (n, _) in zip(old, new) if n is not None}
    return made, MappingReport(mapped=mapped, lost=lost, merged=merged)


def sum_duplicates(adata: AnnData) -> tuple[AnnData, MappingReport]:
    """Return new data in which features of one name are summed; and which they were."""
    names = [str(name) for name in adata.var_names]
    made, merged = _summed(adata, list(names), names)
    return made, MappingReport(mapped={n: n for n in names}, merged=merged)


def read_orthologues(
    path: str | Path, *, source: int = 0, target: int = 1
) -> dict[str, tuple[str, ...]]:
    """Read a CSV or TSV of gene pairs, one a line; rows with an empty side are left out.

    Parameters
    ----------
    path
        The table; may be gzipped.
    source, target
        Numbers of the columns with the names to map from and to.
    """
    path = Path(path)
    found: dict[str, list[str]] = {}
    try:
        with _opened(path) as file:
            for row in _rows(file):
                if max(source, target) < len(row) and row[source] and row[target]:
                    found.setdefault(row[source], []).append(row[target])
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        msg = f"Cannot read orthologues from {str(path)!r}: {error}. Give a CSV or TSV of pairs."
        raise UnreadableFileError(msg) from error
    if not found:
        msg = f"{str(path)!r} holds no pair in columns {source} and {target}. Check the columns."
        raise UnreadableFileError(msg)
    return {gene: tuple(dict.fromkeys(others)) for gene, others in found.items()}


def _renamed(names: Iterable[str], genes: GeneTable, to: str) -> dict[str, tuple[str | None, str]]:
    ids, several = genes.ids()
    known = set(genes.symbols.values())
    found: dict[str, tuple[str | None, str]] = {}
    for name in names:
        bare = _bare(name)
        symbol = genes.symbols.get(bare) or (name if name in known else genes.aliases.get(name))
        if to == "symbol":
            found[name] = (symbol, "" if symbol else "not in the gene table")
        elif bare in genes.symbols:
            found[name] = (bare, "")
        elif symbol in several:
            found[name] = (None, f"the symbol {symbol!r} belongs to several Ensembl genes")
        else:
            gene = ids.get(symbol or "")
            found[name] = (gene, "" if gene else "not in the gene table")
    return found


def _orthologue(name: str, orthologues: Mapping[str, Sequence[str]]) -> tuple[str | None, str]:
    others = orthologues.get(name, orthologues.get(_bare(name), ()))
    if len(others) == 1:
        return others[0], ""
    if others:
        return None, f"has {len(others)} orthologues: {one_of(others, limit=4)}"
    return None, "has no orthologue in the table"


def _summed(
    adata: AnnData, names: list[str | None], old: list[str]
) -> tuple[AnnData, dict[str, tuple[str, ...]]]:
    """Sum columns of one new name; a column named ``None`` is left out."""
    from anndata import AnnData as AnnDataClass

    kept = [name for name in names if name is not None]
    if not kept:
        msg = (
            f"None of {len(names)} features (such as {old[0] if old else ''!r}) has a new name. "
            "Check the species and the kind of names of the table."
        )
        raise DataError(msg)
    order = list(dict.fromkeys(kept))
    place = {name: i for i, name in enumerate(order)}
    rows = np.array([i for i, name in enumerate(names) if name is not None])
    cols = np.array([place[name] for name in kept])
    sums = sp.csr_matrix(
        (np.ones(len(rows), dtype=np.float32), (rows, cols)), shape=(len(names), len(order))
    )
    first = np.full(len(order), -1)
    first[cols[::-1]] = rows[::-1]
    var = adata.var.iloc[first].copy()
    var.index = order
    made = AnnDataClass(_times(adata.X, sums), obs=adata.obs.copy(), var=var)
    for key, layer in adata.layers.items():
        made.layers[key] = _times(layer, sums)
    for key, value in adata.obsm.items():
        made.obsm[key] = value.copy()
    sources: dict[str, list[str]] = {}
    for i, name in enumerate(names):
        if name is not None:
            sources.setdefault(name, []).append(old[i])
    return made, {n: tuple(o) for n, o in sources.items() if len(o) > 1}


def _times(matrix: Any, sums: sp.csr_matrix) -> Any:
    def summed(block: Any) -> sp.csr_matrix:
        return sp.csr_matrix(sp.csr_matrix(block) @ sums).astype(np.float32)

    return map_rows(summed, matrix)


def _bare(name: str) -> str:
    """Cut the version off an Ensembl name, and nothing off any other."""
    match = _VERSION.fullmatch(name)
    return match[1] if match else name


def _opened(path: Path) -> IO[str]:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8")
    return path.open(encoding="utf-8")


def _rows(file: IO[str]) -> Iterable[list[str]]:
    for line in file:
        text = line.rstrip("\n")
        if text and not text.startswith("#"):
            yield [part.strip() for part in text.split("\t" if "\t" in text else ",")]


def _gtf_genes(file: IO[str]) -> Iterable[tuple[str, str, str, str]]:
    for row in file:
        parts = row.split("\t")
        if row.startswith("#") or len(parts) < 9 or parts[2] != "gene":
            continue
        found = dict(_ATTRIBUTE.findall(parts[8]))
        if "gene_id" in found:
            yield found["gene_id"], str(found.get("gene_name", found["gene_id"])), "", parts[0]


def _table_genes(file: IO[str]) -> Iterable[tuple[str, str, str, str]]:
    rows = iter(_rows(file))
    head = next(rows, [])
    lower = [name.lower() for name in head]
    named_id, named_symbol = _column(lower, _ID_COLUMNS), _column(lower, _SYMBOL_COLUMNS)
    at_alias, at_chrom = _column(lower, _ALIAS_COLUMNS), _column(lower, _CHROM_COLUMNS)
    at_id, at_symbol = named_id or 0, 1 if named_symbol is None else named_symbol
    if named_id is None or named_symbol is None:
        at_id, at_symbol, at_alias, at_chrom = 0, 1, None, None
        if len(head) > 1:
            yield head[0], head[1], "", ""
    for row in rows:
        if len(row) > max(at_id, at_symbol) and row[at_id]:
            alias, chrom = _cell(row, at_alias), _cell(row, at_chrom)
            yield row[at_id], row[at_symbol] or row[at_id], alias, chrom


def _cell(row: list[str], at: int | None) -> str:
    return row[at] if at is not None and len(row) > at else ""


def _column(names: list[str], wanted: tuple[str, ...]) -> int | None:
    return next((names.index(name) for name in wanted if name in names), None)


def _unique_aliases(rows: list[tuple[str, str, str, str]], symbols: set[str]) -> dict[str, str]:
    """Keep an alias only when it names one gene and is nobody's current symbol."""
    found: dict[str, set[str]] = {}
    for _, symbol, text, _ in rows:
        for alias in filter(None, (part.strip() for part in text.split("|"))):
            found.setdefault(alias, set()).add(symbol)
    return {
        alias: next(iter(owners))
        for alias, owners in found.items()
        if len(owners) == 1 and alias not in symbols
    }
