"""The schemas of configuration files; unknown keys are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["ComponentConfig", "ConfigModel", "LinksConfig", "PipelineConfig"]


class ConfigModel(BaseModel):
    """The base of every configuration: frozen, no unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ComponentConfig(ConfigModel):
    """A component by its registry name, with the arguments of its constructor."""

    name: str = Field(description="Registry name, e.g. 'glue'. See `cellweave plugins`.")
    parameters: dict[str, Any] = Field(default_factory=dict)


class LinksConfig(ConfigModel):
    """How the features of two modalities are linked."""

    genes: Path | None = Field(default=None, description="GTF or coordinate table.")
    table: Path | None = Field(default=None, description="Your own links (source, target, …).")
    method: str | None = None
    parameters: dict[str, Any] = Field(default_factory=dict)


class PipelineConfig(ConfigModel):
    """A whole run: read, prepare, link, integrate, evaluate, report."""

    inputs: dict[str, Path] | list[Path] = Field(description="Files, or modality to file.")
    output: Path = Field(description="Where the integrated .h5mu goes.")
    integrator: ComponentConfig
    prepare: dict[str, dict[str, Any]] = Field(
        default_factory=dict, description="Modality to settings of its preparation."
    )
    links: LinksConfig = Field(default_factory=LinksConfig)
    report: Path | None = None
    label_key: str = "cell_type"
    batch_key: str | None = None
    pairing: str | None = None
    seed: int = 0
