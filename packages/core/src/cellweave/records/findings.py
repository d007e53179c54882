"""What validation found: each finding with its place, its value and the line that mends it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any, Literal

__all__ = ["Finding", "FindingReport", "Severity"]

Severity = Literal["error", "warning", "note"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is wrong, or that the user should know.

    Parameters
    ----------
    code
        Stable short name, e.g. ``"VALUES_LOG1P"``.
    severity
        ``error`` stops what needs clean data; ``warning`` and ``note`` do not.
    place
        Where: ``"mdata['rna'].X"``, ``"rna.h5ad: obs['batch']"``.
    value
        The value seen there, as text.
    why
        Why it matters, one sentence.
    fix
        The line of code or the command that mends it.
    safe_fix
        Whether ``--fix`` may apply it.
    """

    code: str
    severity: Severity
    place: str
    value: str
    why: str
    fix: str
    safe_fix: bool = False

    def __str__(self) -> str:
        """Say it on one line."""
        return f"{self.severity} {self.code} {self.place}: {self.value}. {self.why} Fix: {self.fix}"


@dataclass(frozen=True, slots=True, kw_only=True)
class FindingReport:
    """Hold all findings of one validation, most severe first."""

    findings: tuple[Finding, ...]
    checked: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Tell whether there is no error."""
        return not any(f.severity == "error" for f in self.findings)

    def codes(self) -> set[str]:
        """Return the codes that were found."""
        return {f.code for f in self.findings}

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "ok": self.ok,
            "checked": list(self.checked),
            "findings": [asdict(f) for f in self.findings],
        }

    def to_json(self) -> str:
        """Return JSON text."""
        return json.dumps(self.to_dict(), indent=1)
