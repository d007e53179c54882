"""Which rows of the published table belong to a species, and where its genes lie.

A gene's row is the offset of its species plus its place in the species' file of protein vectors;
a chromosome's is its place among the names ``species_chromosome`` of all species, sorted, after
the genes. Of the table, which holds all species, only the rows of one are kept.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cellweave.errors import ConfigError, DataError, closest, one_of
from cellweave_nn.checkpoints import find_companion, read_table
from cellweave_nn.checkpoints.limits import DEFAULT_LIMITS, refuse, size_of
from cellweave_nn.checkpoints.torch_files import read_torch_file
from cellweave_rna.tables import read_gene_order
from cellweave_uce.tokenizer import SPECIAL

__all__ = ["Genome", "read_genome"]

# Of the published table: its rows, and the first that is a chromosome.
_ROWS, _FIRST_CHROMOSOME = 145_469, 143_574
_COLUMNS = ("species", "gene_symbol", "chromosome", "start")
_FILES = {
    "human": "Homo_sapiens",
    "mouse": "Mus_musculus",
    "frog": "Xenopus_tropicalis",
    "zebrafish": "Danio_rerio",
    "mouse_lemur": "Microcebus_murinus",
    "pig": "Sus_scrofa",
    "macaca_fascicularis": "Macaca_fascicularis",
    "macaca_mulatta": "Macaca_mulatta",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Genome:
    """Hold the genes of a species along its chromosomes.

    Parameters
    ----------
    genes
        Symbols in upper case, by chromosome and start.
    codes
        Which of ``chromosomes`` each lies on.
    chromosomes
        Their names.
    rows
        Row of the published table of every token: special, genes, chromosomes.
    """

    genes: tuple[str, ...]
    codes: np.ndarray
    chromosomes: tuple[str, ...]
    rows: np.ndarray


def read_genome(
    folders: Sequence[Path], *, species: str, n_rows: int, genes: Path | None = None
) -> Genome:
    """Read offsets, coordinates and the order of genes.

    Parameters
    ----------
    folders
        Where to look.
    species
        Name as in ``species_offsets.pkl``.
    n_rows
        Rows of the table of vectors.
    genes
        The species' file of protein vectors, or its symbols one a line, when not in the folders.
    """
    offset = _offset(folders, species)
    places, n_chromosomes = _coordinates(folders, species)
    source = genes or _file_of(folders, species)
    order = _order(source)
    known = {g: i for i, g in reversed(list(enumerate(order))) if g in places}
    if not known:
        msg = (
            f"No gene of {species!r} in species_chrom.csv is among the {len(order)} in "
            f"{str(source)!r} (such as {order[0]!r}). Give files that were published together."
        )
        raise DataError(msg)
    first = _FIRST_CHROMOSOME if n_rows == _ROWS else n_rows - n_chromosomes
    ordered = sorted(known, key=lambda g: (*places[g], g))
    chromosomes = sorted({places[g][0] for g in ordered})
    codes = np.searchsorted(chromosomes, [places[g][0] for g in ordered])
    rows = [*range(len(SPECIAL)), *(offset + known[g] for g in ordered)]
    rows += [first + code for code in chromosomes]
    if min(rows) < 0 or max(rows) >= n_rows:
        msg = (
            f"The files of {species!r} point to row {max(rows)} of a table of {n_rows}. Give the "
            "species_chrom.csv and species_offsets.pkl that were published with these weights."
        )
        raise DataError(msg)
    return Genome(
        genes=tuple(ordered),
        codes=codes.astype(np.int64),
        chromosomes=tuple(str(code) for code in chromosomes),
        rows=np.array(rows, dtype=np.int64),
    )


def _offset(folders: Sequence[Path], species: str) -> int:
    what = "table of species species_offsets.pkl"
    path = find_companion(folders, ("species_offsets.pkl", "species_offsets.json"), what=what)
    offsets: Mapping[str, Any] = read_table(path, of=int, what="table of offsets")
    if species not in offsets:
        msg = f"species={species!r} is unknown.{closest(species, offsets)} {str(path)!r} has: "
        raise ConfigError(msg + f"{one_of(offsets)}. Give one of these.")
    return int(offsets[species])


def _file_of(folders: Sequence[Path], species: str) -> Path:
    stem = _FILES.get(species, species)
    what = f"file of protein vectors of {species!r}, protein_embeddings/{stem}*.pt,"
    homes = [f / sub for f in folders for sub in ("protein_embeddings", ".")]
    return find_companion(homes, (f"{stem}*.pt", f"{species}_genes.txt"), what=what)


def _order(path: Path) -> list[str]:
    """Return the symbols in upper case, in the order of their vectors."""
    if path.suffix == ".txt":
        names: list[Any] = list(read_gene_order(path))
    else:
        content = read_torch_file(path, DEFAULT_LIMITS)
        names = list(content) if isinstance(content, Mapping) else []
    if not names or not all(isinstance(name, str) for name in names):
        raise refuse(path, "it holds no vectors by gene symbol")
    # As upstream: a symbol in two spellings stands where the first did.
    return list(dict.fromkeys(name.upper() for name in names))


def _coordinates(folders: Sequence[Path], species: str) -> tuple[dict[str, tuple[int, float]], int]:
    """Return the chromosome's code and start of each gene, and the number of chromosomes."""
    what = "table of chromosomes species_chrom.csv"
    path = find_companion(folders, ("species_chrom.csv",), what=what)
    names: set[str] = set()
    rows: dict[str, tuple[str, float]] = {}
    size_of(path, DEFAULT_LIMITS.header_bytes)
    try:
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                owner, gene, chromosome, start = (_text(row, column) for column in _COLUMNS)
                if chromosome:
                    names.add(f"{owner}_{chromosome}")
                if chromosome and owner == species:
                    found = (f"{owner}_{chromosome}", float(start))
                    rows.setdefault(gene.upper(), found)
    except (csv.Error, KeyError, TypeError, ValueError, AttributeError, OSError) as error:
        problem = f"it is no table of {', '.join(_COLUMNS)} ({str(error)[:80]})"
        raise refuse(path, problem) from error
    code = {name: i for i, name in enumerate(sorted(names))}
    return {gene: (code[name], start) for gene, (name, start) in rows.items()}, len(code)


def _text(row: Mapping[str, str | None], column: str) -> str:
    text = row[column]
    if text is None:
        msg = f"a line without {column}"
        raise ValueError(msg)
    return text
