"""Where features lie on the genome: names such as ``chr1:10-20`` and BED columns to arrays."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from cellweave.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "Regions",
    "chromosome_codes",
    "column_names",
    "plain_chromosome",
    "region_columns",
    "regions_of",
    "require_regions",
    "share_of_regions",
]

# The last two numbers are start and end; what stands before is the chromosome, however it is
# spelt ("chr1", "chr1_KI270706v1_random", "HLA-A*01:01"), and commas may group the digits.
_REGION = re.compile(r"(.+)[:_-](\d[\d,]{0,14})(?:-|_|\.\.)(\d[\d,]{0,14})(?::[+.*-])?")
_PLAUSIBLE = re.compile(r"(?:chr|\d{1,2}$|[XYM]$|MT$|GL|KI|JH)")
_COLUMNS = (("chrom", "chromStart", "chromEnd"), ("chrom", "start", "end"))
_TEXT_COLUMNS = ("interval", "peak", "region")


@dataclass(frozen=True, slots=True, kw_only=True)
class Regions:
    """Hold half-open, 0-based intervals of features, in the order of the features.

    Parameters
    ----------
    chrom
        ``(n,)`` chromosome names without ``chr`` (``"1"``, ``"X"``, ``"M"``); ``""`` if unknown.
    starts, ends
        ``(n,)`` int64; both 0 where unknown.
    strand
        ``(n,)`` ``"+"``, ``"-"`` or ``"."``.
    problems
        Position to the reason why it has no place.
    """

    chrom: np.ndarray
    starts: np.ndarray
    ends: np.ndarray
    strand: np.ndarray
    problems: Mapping[int, str] = field(default_factory=dict)

    def __len__(self) -> int:
        """Count features."""
        return len(self.chrom)

    @property
    def known(self) -> np.ndarray:
        """Tell which features have a place."""
        return self.ends > 0


def column_names(var: pd.DataFrame) -> tuple[str, str, str] | None:
    """Return the names of the columns that hold chromosome, start and end."""
    return next((c for c in _COLUMNS if set(c) <= set(var.columns)), None)


def regions_of(var: pd.DataFrame) -> Regions:
    """Return where the features of ``var`` lie: BED columns, a column of intervals, or names.

    Parameters
    ----------
    var
        With ``chrom, chromStart, chromEnd`` or ``chrom, start, end`` (half-open, 0-based), or an
        ``interval`` column, or an index such as ``chr1:10-20``, ``chr1-10-20``, ``chr1_10_20``.
    """
    strand = var["strand"].astype(str).to_numpy() if "strand" in var.columns else None
    return _checked(_raw_columns(var), var.index, strand)


def region_columns(var: pd.DataFrame) -> pd.DataFrame:
    """Return ``chrom, chromStart, chromEnd`` of the features, chromosomes spelt as the data do.

    Features without a place have an empty ``chrom`` and zeros.
    """
    import pandas as pd

    regions = regions_of(var)
    spelt = _raw_columns(var)["chrom"].astype(object).to_numpy(dtype=object)
    return pd.DataFrame(
        {
            "chrom": np.where(regions.known, spelt, ""),
            "chromStart": regions.starts,
            "chromEnd": regions.ends,
        },
        index=var.index,
    )


def share_of_regions(names: pd.Index) -> float:
    """Return which share of ``names`` reads as ``chromosome, start, end`` with start < end."""
    import pandas as pd

    if len(names) == 0:
        return 0.0
    found = _extracted(pd.Series(names))
    codes, spelt = pd.factorize(found["chrom"])
    plausible = np.array([*(bool(_PLAUSIBLE.match(c)) for c in spelt), False])
    return float(((found["end"] > found["start"]).to_numpy() & plausible[codes]).mean())


def plain_chromosome(names: pd.Series) -> pd.Series:
    """Drop ``chr`` and write the mitochondrion as ``M``, so that both dialects meet."""
    plain = names.str.replace(r"^(?:chr|Chr|CHR)(?!_)", "", regex=True)
    return plain.replace({"MT": "M", "Mt": "M", "mt": "M"})


def _raw_columns(var: pd.DataFrame) -> pd.DataFrame:
    import pandas as pd

    columns = column_names(var)
    if columns:
        return var.loc[:, list(columns)].set_axis(["chrom", "start", "end"], axis=1)
    text = next((var[c] for c in _TEXT_COLUMNS if c in var.columns), None)
    names = pd.Series(var.index if text is None else text.to_numpy(), index=var.index, dtype="str")
    return _extracted(names)


def _extracted(names: pd.Series) -> pd.DataFrame:
    """Read every name by one pass of the pattern: pandas' own way takes four times as long."""
    import pandas as pd

    matches = [_REGION.fullmatch(name) for name in names.astype(str)]
    chrom = [m[1] if m else None for m in matches]
    numbers = [[float(m[k].replace(",", "")) if m else np.nan for m in matches] for k in (2, 3)]
    columns = {"chrom": pd.Series(chrom, dtype="object"), "start": numbers[0], "end": numbers[1]}
    return pd.DataFrame(columns).set_axis(names.index, axis=0)


def _checked(
    frame: pd.DataFrame, labels: pd.Index | pd.Series, strand: np.ndarray | None
) -> Regions:
    import pandas as pd

    starts = pd.to_numeric(frame["start"], errors="coerce").to_numpy(dtype=np.float64)
    ends = pd.to_numeric(frame["end"], errors="coerce").to_numpy(dtype=np.float64)
    codes, spelt = pd.factorize(frame["chrom"])
    good = np.isfinite(starts) & np.isfinite(ends) & (codes >= 0)
    good &= np.where(good, (starts >= 0) & (ends > starts), False)
    names = np.asarray(labels, dtype=object)
    problems = {int(i): _reason(names[i], starts[i], ends[i]) for i in np.flatnonzero(~good)}
    plain = plain_chromosome(pd.Series([*map(str, spelt), ""], dtype="object")).to_numpy(object)
    good &= plain[codes] != ""
    plain = np.where(good, plain[codes], "")
    return Regions(
        chrom=plain,
        starts=np.where(good, starts, 0).astype(np.int64),
        ends=np.where(good, ends, 0).astype(np.int64),
        strand=np.full(len(good), ".", dtype=object) if strand is None else strand.astype(object),
        problems=problems,
    )


def _reason(name: object, start: float, end: float) -> str:
    if np.isfinite(start) and np.isfinite(end):
        return f"{name!s} runs from {start:.0f} to {end:.0f}; expected 0 <= start < end"
    return f"{name!s} has no coordinates; expected a form such as chr1:10-20"


def chromosome_codes(*many: Regions) -> list[np.ndarray]:
    """Return integer codes of the chromosomes, shared by all given regions; −1 if unknown."""
    import pandas as pd

    joined = np.concatenate([r.chrom for r in many]) if many else np.empty(0, dtype=object)
    codes, _ = pd.factorize(pd.Series(joined, dtype="object"), sort=True)
    known = np.concatenate([r.known for r in many])
    codes = np.where(known, codes, -1)
    return np.split(codes, np.cumsum([len(r) for r in many])[:-1])


def require_regions(regions: Regions, *, what: str) -> None:
    """Refuse features of which not a single one has a place on the genome."""
    if not regions.known.any():
        example = next(iter(regions.problems.values()), "there are no features")
        msg = (
            f"No feature of {what} has coordinates: {example}. Expected var columns chrom, "
            "chromStart, chromEnd, or names such as chr1:10-20. Add them, or give `genes`."
        )
        raise DataError(msg)
