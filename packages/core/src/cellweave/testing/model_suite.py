"""The suite of the model contract."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from cellweave.contracts import Tokenizer
from cellweave.errors import CellweaveError
from cellweave.testing import planted as plant
from cellweave.testing.observing import (
    observed,
    require_quiet,
    require_same_state,
    require_unchanged,
)
from cellweave.testing.suite import Suite, refusal, require

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["ModelSuite"]


class ModelSuite(Suite):
    """Check a model family on a tiny model.

    :meth:`create` returns a small model with weights drawn from a fixed seed; :meth:`data` the
    cells that its vocabulary knows.
    """

    kind: ClassVar[str] = "model"
    n_cells: ClassVar[int] = 24

    def data(self) -> AnnData:
        """Return prepared cells whose genes the model knows."""
        adata: AnnData = plant.planted(("rna",), n_cells=self.n_cells).mod["rna"]
        return adata

    @property
    def model(self) -> Any:
        """The model, made once for the class."""
        return self.once("model", self.create)

    @property
    def reference(self) -> Any:
        """The watched embedding, made once for the class."""
        return self.once(
            "reference", lambda: observed(lambda a: self.model.embed(a, batch_size=5), self.data())
        )

    @property
    def values(self) -> np.ndarray:
        """The embedded cells."""
        return np.asarray(self.reference.value.values)

    def test_names_its_family(self) -> None:
        """``family`` is a name."""
        family = self.model.family
        require(isinstance(family, str) and family, f"`family` is {family!r}. Give its name.")

    def test_has_a_tokenizer(self) -> None:
        """``tokenizer`` follows the contract of tokenizers."""
        tokenizer = self.model.tokenizer
        right = isinstance(tokenizer, Tokenizer)
        require(right, f"`tokenizer` is {type(tokenizer).__name__}, which lacks the contract.")
        require(len(tokenizer.vocabulary) > 0, "The tokenizer's vocabulary is empty.")

    def test_embeds_every_cell_in_order(self) -> None:
        """There is one row a cell, named, in input order."""
        names = np.asarray(self.reference.value.names, dtype=str)
        same = np.array_equal(names, self.data().obs_names.to_numpy(dtype=str))
        require(same, "Names are not `obs_names` in input order. Undo sorting by length.")

    def test_embedding_is_float32_and_finite(self) -> None:
        """Values are float32 without NaN."""
        require(self.values.dtype == np.float32, f"Values are {self.values.dtype}, not float32.")
        require(np.isfinite(self.values).all(), "Values hold NaN or infinity.")

    def test_cells_differ(self) -> None:
        """Different cells have different vectors."""
        spread = float(self.values.std(axis=0).max())
        require(spread > 1e-7, "All cells have one vector. Do the tokens reach the encoder?")

    def test_embed_leaves_everything_unchanged(self) -> None:
        """``embed`` changes neither its input nor global state, and prints nothing."""
        require_unchanged(self.reference, "`embed`")
        require_same_state(self.reference, "`embed`")
        require_quiet(self.reference, "`embed`")

    def test_size_of_batches_does_not_matter(self) -> None:
        """Batches of other sizes give the same vectors."""
        for size in (1, 7, 64):
            found = self.model.embed(self.data(), batch_size=size).values
            gap = float(np.abs(found - self.values).max())
            require(gap < 1e-4, f"batch_size={size} changes values by {gap:.2g}: padding leaks.")

    def test_order_of_cells_does_not_matter(self) -> None:
        """Cells in another order have the same vectors, in that order."""
        order = np.random.default_rng(1).permutation(self.data().n_obs)
        found = self.model.embed(self.data()[order].copy(), batch_size=5).values
        gap = float(np.abs(found - self.values[order]).max())
        require(gap < 1e-4, f"Values change by {gap:.2g} with the order of cells.")

    def test_embedding_twice_gives_the_same(self) -> None:
        """Nothing is random in ``embed``."""
        again = self.model.embed(self.data(), batch_size=5).values
        require(again.tobytes() == self.values.tobytes(), "Two calls differ. Use `eval()`.")

    def test_provenance_names_the_family(self) -> None:
        """Provenance says what made the vectors."""
        component = self.reference.value.provenance.component
        require(component, "Provenance has no component name. Set it to `family`.")

    def test_saved_model_is_read_back(self) -> None:
        """A saved model gives the same vectors."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model"
            self.model.save(path)
            back = type(self.model).load(path)
            found = back.embed(self.data(), batch_size=5).values
        gap = float(np.abs(found - self.values).max())
        require(gap < 1e-6, f"Values change by {gap:.2g} after saving and loading.")

    def test_saved_model_has_a_manifest(self) -> None:
        """The folder can be verified, and holds no pickle."""
        from cellweave.storage import verify

        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model"
            self.model.save(path)
            problems = verify(path)
            suffixes = {p.suffix for p in path.rglob("*") if p.is_file()}
        require(not problems, f"`verify` finds {problems}. Write with `atomic_folder`.")
        unsafe = suffixes & {".pt", ".pth", ".pkl", ".pickle", ".bin"}
        require(not unsafe, f"The folder holds {unsafe}. Write safetensors and JSON.")

    def test_damaged_model_is_refused(self) -> None:
        """One flipped bit in the largest file is found."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model"
            self.model.save(path)
            largest = max((p for p in path.rglob("*") if p.is_file()), key=_size)
            data = bytearray(largest.read_bytes())
            data[len(data) // 2] ^= 1
            largest.write_bytes(bytes(data))
            with refusal("A model with a flipped bit"):
                type(self.model).load(path)

    def test_recognises_its_own(self) -> None:
        """``recognises`` says yes to a saved model, no to anything else."""
        family = type(self.model)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model"
            self.model.save(path)
            require(family.recognises(path), "`recognises` refuses what `save` wrote.")
            empty = Path(folder) / "empty"
            empty.mkdir()
            require(not family.recognises(empty), "`recognises` accepts an empty folder.")
            text = Path(folder) / "text.txt"
            text.write_text("nothing")
            require(not family.recognises(text), "`recognises` accepts a text file.")
            require(not family.recognises(Path(folder) / "none"), "It accepts a missing path.")

    def test_nothing_is_loaded_from_nothing(self) -> None:
        """``load`` of an empty folder raises one of our errors."""
        with tempfile.TemporaryDirectory() as folder, refusal("An empty folder", CellweaveError):
            type(self.model).load(Path(folder))

    def test_unknown_genes_alone_are_refused(self) -> None:
        """Cells of which the model knows no gene are refused."""
        adata = self.data()
        adata.var_names = [f"no_gene_{i}" for i in range(adata.n_vars)]
        with refusal("Cells without any known gene"):
            self.model.embed(adata, batch_size=5)


def _size(path: Path) -> int:
    return path.stat().st_size
