"""Exact masses of formulas, and of the ions they become."""

from __future__ import annotations

import re

from cellweave.errors import DataError

__all__ = ["ADDUCTS", "adduct_mass", "exact_mass"]

ELECTRON = 0.000548579909
# Monoisotopic masses in dalton (IUPAC/CIAAW).
_ELEMENTS = {
    "H": 1.00782503207, "D": 2.0141017778, "B": 11.0093054, "C": 12.0, "N": 14.0030740048,
    "O": 15.99491461956, "F": 18.99840322, "Na": 22.9897692809, "Mg": 23.9850417,
    "Si": 27.9769265325, "P": 30.97376163, "S": 31.972071, "Cl": 34.96885268, "K": 38.96370668,
    "Ca": 39.96259098, "Mn": 54.9380451, "Fe": 55.9349375, "Co": 58.933195, "Cu": 62.9295975,
    "Zn": 63.9291422, "Li": 7.01600455, "As": 74.9215965, "Se": 79.9165213, "Br": 78.9183371,
    "I": 126.904473, "Ag": 106.905097,
}  # fmt: skip
# Groups that adducts are written with.
_GROUPS = {"ACN": "C2H3N", "FA": "CH2O2", "HAc": "C2H4O2", "Hac": "C2H4O2", "MeOH": "CH4O"}
ADDUCTS = {
    "positive": ("[M+H]+", "[M+Na]+", "[M+K]+", "[M+NH4]+", "[M+H-H2O]+"),
    "negative": ("[M-H]-", "[M+Cl]-", "[M+FA-H]-", "[M-H-H2O]-"),
}
_PART = re.compile(r"([A-Z][a-z]?)(\d*)|\(([A-Za-z0-9]+)\)(\d*)")
_ADDUCT = re.compile(
    r"^\[(?P<n>\d*)M(?P<parts>(?:[+-]\d*[A-Za-z][A-Za-z0-9]*)*)\](?P<z>\d*)(?P<sign>[+-])$"
)
_CHANGE = re.compile(r"([+-])(\d*)([A-Za-z][A-Za-z0-9]*)")


def exact_mass(formula: str) -> float:
    """Return the monoisotopic mass of a neutral formula such as ``C6H12O6`` or ``Ca(OH)2``."""
    text = formula.strip()
    total, end = 0.0, 0
    for part in _PART.finditer(text):
        if part.start() != end:
            break
        symbol, count, group, group_count = part.groups()
        if group is not None:
            total += exact_mass(group) * int(group_count or 1)
        elif symbol in _ELEMENTS:
            total += _ELEMENTS[symbol] * int(count or 1)
        else:
            msg = f"Formula {formula!r} holds {symbol!r}, which is no element known here."
            raise DataError(msg)
        end = part.end()
    if not text or end != len(text):
        msg = f"Formula {formula!r} cannot be read. Expected elements and counts, e.g. C6H12O6."
        raise DataError(msg)
    return total


def adduct_mass(mass: float, adduct: str) -> float:
    """Return the m/z of the ion that a neutral of ``mass`` becomes as ``adduct``.

    ``m/z = (n·M + Σ added − Σ lost − z·mₑ) / |z|`` for ``[nM+…]z+``; a negative ion has gained
    electrons.
    """
    multiple, change, charge = _read_adduct(adduct)
    return (multiple * mass + change - charge * ELECTRON) / abs(charge)


def _read_adduct(adduct: str) -> tuple[int, float, int]:
    match = _ADDUCT.match(adduct.strip().replace(" ", ""))
    if match is None:
        msg = f"Adduct {adduct!r} cannot be read. Expected a form such as [M+H]+ or [2M-H]-."
        raise DataError(msg)
    change = 0.0
    for sign, count, group in _CHANGE.findall(match["parts"]):
        mass = exact_mass(_GROUPS.get(group, group)) * int(count or 1)
        change += mass if sign == "+" else -mass
    charge = int(match["z"] or 1) * (1 if match["sign"] == "+" else -1)
    return int(match["n"] or 1), change, charge
