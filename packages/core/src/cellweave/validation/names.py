"""Say what feature names are: symbols, Ensembl ids, peaks, masses; of which species."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

__all__ = ["NameSummary", "cell_barcodes", "describe_names", "strip_versions"]

_PATTERNS = {
    "human_id": r"ENSG\d{11}(?:\.\d+)?",
    "mouse_id": r"ENSMUSG\d{11}(?:\.\d+)?",
    "other_id": r"(?:ENS(?!MUSG)[A-Z]{3,4}G\d{11}|FBgn\d{7}|WBGene\d{8})(?:\.\d+)?",
    "peak": r"(?:chr)?[A-Za-z0-9_.]{1,30}[:_-]\d+[-_]\d+",
    "mass": r"(?:mz|m/z)?[-_ ]?\d{2,4}\.\d{2,}.*",
    "number": r"\d+",
    "antibody": r"(?:anti[-_ ]?)?(?:human|mouse|hu|ms)?[-_ .]?(?:CD\d+[A-Za-z]*|IgG\d?[ab]?"
    r"|HLA[-_ ]?DR|TIGIT|TCR\w*)(?:[-_ .(].*)?",
    "prefixed": r"(?:GRCh3\d|hg\d\d|GRCm3\d|mm\d\d)_+.+",
}
_HUMAN_SYMBOL = r"[A-Z][A-Z0-9]*(?:C?\d*orf\d+)?(?:[-.][A-Z0-9]+)*"
_MOUSE_SYMBOL = r"(?:[A-Z][a-z]+[a-z0-9]*|mt-[A-Z][a-z0-9]+)(?:[-.][A-Za-z0-9]+)*"
_ACCESSION = r"[A-Z]{1,3}\d+(?:\.\d+)?|(?:LOC|CG|CR|Gm)\d+.*"
_EXCEL_DATE = r"\d{1,2}-(?:Mar|Sep|Dec)"

# Genes that most panels and nearly all whole transcriptomes hold, in the spelling of human.
_FAMILIAR_TEXT = """
ACTB B2M GAPDH MALAT1 EEF1A1 TMSB4X FTL FTH1 RPLP0 RPS6 RPL13 UBC HSP90AA1 VIM CD3D CD3E CD8A
CD4 MS4A1 CD79A CD14 LYZ NKG7 GNLY FCGR3A S100A8 S100A9 PPBP CST3 GAD1 GAD2 SLC17A7 SLC32A1 AQP4
MBP PLP1 MOG PDGFRA VIP SST PVALB RELN CNR1 LAMP5 CUX2 RORB FOXP2 SNAP25 GFAP CX3CR1 AIF1 COL1A1
COL1A2 DCN ACTA2 PECAM1 VWF EPCAM KRT8 KRT18 KRT19 MKI67 TOP2A INS GCG ALB PTPRC IL7R CCR7 JUN
FOS MYC TP53 STAT1 IFITM3 ISG15 HES4 NRXN1 NRXN3 GRIK2 SLC1A2 SYT1 MEG3
"""
_FAMILIAR = frozenset(_FAMILIAR_TEXT.split())


@dataclass(frozen=True, slots=True, kw_only=True)
class NameSummary:
    """Hold what the names of features look like; counts, except for ``n``-free fields.

    Parameters
    ----------
    n
        Number of names.
    human_ids, mouse_ids, other_ids
        Ensembl (and alike) gene ids by species.
    versioned
        Ids that end in a version, ``.5``.
    human_symbols, mouse_symbols
        Symbols spelt as in human (``GAPDH``) and as in mouse (``Gapdh``); accessions count for
        neither.
    peaks, masses, numbers, antibodies
        Genomic intervals, mass-to-charge ratios, bare numbers, antibody names.
    familiar
        Well-known gene symbols among the names, whatever the spelling.
    excel_dates
        Symbols that a spreadsheet turned into dates.
    human_prefixed, mouse_prefixed
        Names with a genome in front, ``GRCh38_``.
    """

    n: int
    human_ids: int
    mouse_ids: int
    other_ids: int
    versioned: int
    human_symbols: int
    mouse_symbols: int
    peaks: int
    masses: int
    numbers: int
    antibodies: int
    familiar: int
    excel_dates: int
    human_prefixed: int
    mouse_prefixed: int

    @property
    def ids(self) -> int:
        """Count gene ids of any species."""
        return self.human_ids + self.mouse_ids + self.other_ids

    @property
    def symbols(self) -> int:
        """Count what can only be gene symbols or names."""
        return self.n - self.ids - self.peaks - self.masses - self.numbers

    @property
    def id_kind(self) -> str:
        """Name the most frequent kind of name."""
        kinds = {
            "Ensembl ids": self.ids,
            "genomic intervals": self.peaks,
            "masses": self.masses,
            "numbers": self.numbers,
            "symbols": self.symbols,
        }
        return max(kinds, key=lambda k: kinds[k])

    @property
    def species(self) -> str | None:
        """Name the species, where ids or the spelling of symbols tell it."""
        human = self.human_ids + self.human_symbols + self.human_prefixed
        mouse = self.mouse_ids + self.mouse_symbols + self.mouse_prefixed
        if self.other_ids > max(human, mouse) or human + mouse < max(3, 0.2 * self.n):
            return None
        return "human" if human >= mouse else "mouse"

    def share(self, count: int) -> float:
        """Give ``count`` as a share of all names."""
        return count / max(self.n, 1)


def describe_names(names: pd.Index) -> NameSummary:
    """Look at every name once and say of what kind they are."""
    text = pd.Series(np.asarray(names.astype(str), dtype=object), dtype="str")
    is_kind = {kind: text.str.fullmatch(pattern) for kind, pattern in _PATTERNS.items()}
    is_id = is_kind["human_id"] | is_kind["mouse_id"] | is_kind["other_id"]
    is_peak = is_kind["peak"] & ~is_id
    is_mass = is_kind["mass"] & ~is_id & ~is_peak
    rest = text[~(is_id | is_peak | is_mass | is_kind["number"] | is_kind["prefixed"])]
    accession = rest.str.fullmatch(_ACCESSION)
    human_prefixed = is_kind["prefixed"] & text.str.match(r"GRCh|hg")
    return NameSummary(
        n=len(text),
        human_ids=int(is_kind["human_id"].sum()),
        mouse_ids=int(is_kind["mouse_id"].sum()),
        other_ids=int(is_kind["other_id"].sum()),
        versioned=int((is_id & text.str.contains(".", regex=False)).sum()),
        human_symbols=int((rest.str.fullmatch(_HUMAN_SYMBOL) & ~accession).sum()),
        mouse_symbols=int((rest.str.fullmatch(_MOUSE_SYMBOL) & ~accession).sum()),
        peaks=int(is_peak.sum()),
        masses=int(is_mass.sum()),
        numbers=int(is_kind["number"].sum()),
        antibodies=int(is_kind["antibody"].sum()),
        familiar=int(text.str.upper().isin(_FAMILIAR).sum()),
        excel_dates=int(text.str.fullmatch(_EXCEL_DATE).sum()),
        human_prefixed=int(human_prefixed.sum()),
        mouse_prefixed=int((is_kind["prefixed"] & ~human_prefixed).sum()),
    )


def strip_versions(names: pd.Index) -> pd.Index:
    """Return names with the version of gene ids cut off; other names as they are."""
    text = pd.Series(np.asarray(names.astype(str), dtype=object), dtype="str")
    pattern = r"^(ENS[A-Z]*G\d{11}|FBgn\d{7}|WBGene\d{8})\.\d+$"
    return pd.Index(text.str.replace(pattern, r"\1", regex=True).to_numpy(object), name=names.name)


def cell_barcodes(names: pd.Index) -> pd.Index:
    """Return the bare barcode in each cell name: the longest run of nucleotide letters."""
    text = pd.Series(np.asarray(names.astype(str), dtype=object), dtype="str")
    found = text.str.extract(r"([ACGTN]{8,})", expand=False)
    return pd.Index(found.where(found.notna(), text).to_numpy(object))
