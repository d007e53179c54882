"""The whole plugin contract on one screen: what a ``_plugin.py`` may implement.

A plugin is a module named by an entry point in the group ``cellweave.plugins``. It holds the
literal ``cellweave_api_version = 1`` and functions marked ``@hookimpl`` with names from here.
It imports ``cellweave.hookspecs`` and ``cellweave.records`` and nothing heavier; questions
(``firstresult``) import what they need inside the function.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from anndata import AnnData

    from cellweave.records import ComponentSpec, FeatureLinks, LinkRequest

__all__ = ["API_VERSION", "ENTRY_POINT_GROUP", "PROJECT", "PluginSpecs", "hookimpl", "hookspec"]

API_VERSION = 1
PROJECT = "cellweave"
ENTRY_POINT_GROUP = "cellweave.plugins"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


class PluginSpecs:
    """Every hook; a plugin implements those it has parts for."""

    @hookspec
    def cellweave_modalities(self) -> Iterable[ComponentSpec]:
        """Offer modalities: targets follow :class:`~cellweave.contracts.Modality`."""
        yield from ()

    @hookspec
    def cellweave_tokenizers(self) -> Iterable[ComponentSpec]:
        """Offer tokenizers: targets follow :class:`~cellweave.contracts.Tokenizer`."""
        yield from ()

    @hookspec
    def cellweave_encoders(self) -> Iterable[ComponentSpec]:
        """Offer encoders: targets follow :class:`~cellweave.contracts.Encoder`."""
        yield from ()

    @hookspec
    def cellweave_objectives(self) -> Iterable[ComponentSpec]:
        """Offer objectives: targets follow :class:`~cellweave.contracts.Objective`."""
        yield from ()

    @hookspec
    def cellweave_tasks(self) -> Iterable[ComponentSpec]:
        """Offer tasks: targets follow :class:`~cellweave.contracts.Task`."""
        yield from ()

    @hookspec
    def cellweave_integrators(self) -> Iterable[ComponentSpec]:
        """Offer integrators: targets follow :class:`~cellweave.contracts.Integrator`."""
        yield from ()

    @hookspec
    def cellweave_models(self) -> Iterable[ComponentSpec]:
        """Offer model families: targets follow :class:`~cellweave.contracts.Model`."""
        yield from ()

    @hookspec
    def cellweave_metrics(self) -> Iterable[ComponentSpec]:
        """Offer metrics: targets follow :class:`~cellweave.contracts.Metric`."""
        yield from ()

    @hookspec(firstresult=True)
    def cellweave_guess_modality(self, adata: AnnData) -> str | None:
        """Name the modality of ``adata``, or return ``None`` when it is not one of yours."""

    @hookspec(firstresult=True)
    def cellweave_link_features(self, request: LinkRequest) -> FeatureLinks | None:
        """Link the features of two modalities, or return ``None`` when you do not know them."""
