"""Metabolomics for cellweave: mass spectra of cells, spots and tissue, read, named and linked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cellweave.lazy import lazy_exports

if TYPE_CHECKING:
    from cellweave_metabolomics.alignment import MassHistogram as MassHistogram
    from cellweave_metabolomics.alignment import align_features as align_features
    from cellweave_metabolomics.alignment import nearest_masses as nearest_masses
    from cellweave_metabolomics.annotation import annotate as annotate
    from cellweave_metabolomics.chemistry import adduct_mass as adduct_mass
    from cellweave_metabolomics.chemistry import exact_mass as exact_mass
    from cellweave_metabolomics.imzml import read_imzml as read_imzml
    from cellweave_metabolomics.links import link_features as link_features
    from cellweave_metabolomics.masses import masses_of as masses_of
    from cellweave_metabolomics.modality import MetabolomicsModality as MetabolomicsModality
    from cellweave_metabolomics.preparation import MetabolomicsSettings as MetabolomicsSettings
    from cellweave_metabolomics.registration import fit_affine as fit_affine
    from cellweave_metabolomics.registration import register as register
    from cellweave_metabolomics.space import ion_image as ion_image
    from cellweave_metabolomics.space import morans_i as morans_i
    from cellweave_metabolomics.tables import read_feature_table as read_feature_table

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "MassHistogram": "cellweave_metabolomics.alignment",
        "MetabolomicsModality": "cellweave_metabolomics.modality",
        "MetabolomicsSettings": "cellweave_metabolomics.preparation",
        "adduct_mass": "cellweave_metabolomics.chemistry",
        "align_features": "cellweave_metabolomics.alignment",
        "annotate": "cellweave_metabolomics.annotation",
        "exact_mass": "cellweave_metabolomics.chemistry",
        "fit_affine": "cellweave_metabolomics.registration",
        "ion_image": "cellweave_metabolomics.space",
        "link_features": "cellweave_metabolomics.links",
        "masses_of": "cellweave_metabolomics.masses",
        "morans_i": "cellweave_metabolomics.space",
        "nearest_masses": "cellweave_metabolomics.alignment",
        "read_feature_table": "cellweave_metabolomics.tables",
        "read_imzml": "cellweave_metabolomics.imzml",
        "register": "cellweave_metabolomics.registration",
    },
)
