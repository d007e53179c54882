"""Configurations: YAML or JSON that names components and their arguments, nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cellweave.lazy import lazy_exports

if TYPE_CHECKING:
    from cellweave.config.arguments import coerce_arguments as coerce_arguments
    from cellweave.config.loading import load_config as load_config
    from cellweave.config.loading import parse_config as parse_config
    from cellweave.config.models import ComponentConfig as ComponentConfig
    from cellweave.config.models import ConfigModel as ConfigModel
    from cellweave.config.models import LinksConfig as LinksConfig
    from cellweave.config.models import PipelineConfig as PipelineConfig

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "ComponentConfig": "cellweave.config.models",
        "ConfigModel": "cellweave.config.models",
        "LinksConfig": "cellweave.config.models",
        "PipelineConfig": "cellweave.config.models",
        "coerce_arguments": "cellweave.config.arguments",
        "load_config": "cellweave.config.loading",
        "parse_config": "cellweave.config.loading",
    },
)
