"""Read what model authors publish: every container they use, no code run, every key accounted for.

Importing this imports no torch; each name is loaded when it is first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cellweave.lazy import lazy_exports

if TYPE_CHECKING:
    from cellweave_nn.checkpoints.companions import find_companion as find_companion
    from cellweave_nn.checkpoints.companions import find_companions as find_companions
    from cellweave_nn.checkpoints.companions import head_count as head_count
    from cellweave_nn.checkpoints.companions import read_json as read_json
    from cellweave_nn.checkpoints.companions import read_table as read_table
    from cellweave_nn.checkpoints.embedding import embed_by_length as embed_by_length
    from cellweave_nn.checkpoints.family import FamilyModel as FamilyModel
    from cellweave_nn.checkpoints.family import ReadModel as ReadModel
    from cellweave_nn.checkpoints.limits import Limits as Limits
    from cellweave_nn.checkpoints.lora import merge_lora as merge_lora
    from cellweave_nn.checkpoints.matching import KeyReport as KeyReport
    from cellweave_nn.checkpoints.matching import fill as fill
    from cellweave_nn.checkpoints.matching import renamed_by as renamed_by
    from cellweave_nn.checkpoints.matching import take as take
    from cellweave_nn.checkpoints.peeking import damaged_files as damaged_files
    from cellweave_nn.checkpoints.peeking import files_with as files_with
    from cellweave_nn.checkpoints.peeking import has_names as has_names
    from cellweave_nn.checkpoints.peeking import one_file_with as one_file_with
    from cellweave_nn.checkpoints.peeking import peek_names as peek_names
    from cellweave_nn.checkpoints.pickled import read_pickled_table as read_pickled_table
    from cellweave_nn.checkpoints.published import PublishedFolder as PublishedFolder
    from cellweave_nn.checkpoints.published import is_published_folder as is_published_folder
    from cellweave_nn.checkpoints.published import read_published as read_published
    from cellweave_nn.checkpoints.published import write_published as write_published
    from cellweave_nn.checkpoints.reading import Checkpoint as Checkpoint
    from cellweave_nn.checkpoints.reading import find_weights as find_weights
    from cellweave_nn.checkpoints.reading import read_checkpoint as read_checkpoint

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "Checkpoint": "cellweave_nn.checkpoints.reading",
        "FamilyModel": "cellweave_nn.checkpoints.family",
        "KeyReport": "cellweave_nn.checkpoints.matching",
        "Limits": "cellweave_nn.checkpoints.limits",
        "PublishedFolder": "cellweave_nn.checkpoints.published",
        "ReadModel": "cellweave_nn.checkpoints.family",
        "damaged_files": "cellweave_nn.checkpoints.peeking",
        "embed_by_length": "cellweave_nn.checkpoints.embedding",
        "find_companions": "cellweave_nn.checkpoints.companions",
        "files_with": "cellweave_nn.checkpoints.peeking",
        "fill": "cellweave_nn.checkpoints.matching",
        "find_companion": "cellweave_nn.checkpoints.companions",
        "find_weights": "cellweave_nn.checkpoints.reading",
        "has_names": "cellweave_nn.checkpoints.peeking",
        "head_count": "cellweave_nn.checkpoints.companions",
        "is_published_folder": "cellweave_nn.checkpoints.published",
        "merge_lora": "cellweave_nn.checkpoints.lora",
        "one_file_with": "cellweave_nn.checkpoints.peeking",
        "peek_names": "cellweave_nn.checkpoints.peeking",
        "read_checkpoint": "cellweave_nn.checkpoints.reading",
        "read_json": "cellweave_nn.checkpoints.companions",
        "read_pickled_table": "cellweave_nn.checkpoints.pickled",
        "read_published": "cellweave_nn.checkpoints.published",
        "read_table": "cellweave_nn.checkpoints.companions",
        "renamed_by": "cellweave_nn.checkpoints.matching",
        "take": "cellweave_nn.checkpoints.matching",
        "write_published": "cellweave_nn.checkpoints.published",
    },
)
