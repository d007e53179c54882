"""Checks of a family's reader on a folder in the published layout: inherit, name its files, run.

Every check looks at the reader from outside: files are damaged, taken away or replaced, and the
command line is asked as a user would. What a family alone has stays in its own tests.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pytest
import torch

import cellweave
from cellweave.cli.app import main
from cellweave.errors import (
    DataError,
    DataNotice,
    LicenceNotice,
    StateMismatchError,
    UnreadableFileError,
)
from cellweave_nn.batch import TokenBatch
from cellweave_nn.testing.hostile import hostile_pickles, hostile_safetensors

if TYPE_CHECKING:
    from anndata import AnnData

    from cellweave_nn.checkpoints import FamilyModel

__all__ = ["PublishedFilesSuite"]

_TINY = {"a": torch.zeros(2, 2), "b": torch.ones(3)}
CASES = [("torch", name) for name in hostile_pickles(_TINY, Path())]
CASES += [("safetensors", name) for name in hostile_safetensors(_TINY)]


class PublishedFilesSuite:
    """Hold the checks; a family says where its files are.

    ``model`` is the class, ``weights`` the path of torch's file within the folder, ``safe`` that
    of safetensors, ``instead`` other weights that must give way to either, ``missing`` says what an
    error names when a file (a pattern) is gone, ``tensor`` is a name that ``models check`` prints;
    ``known_by_name`` is false where the name of the weights says nothing of the family.
    """

    model: ClassVar[type[FamilyModel]]
    weights: ClassVar[str]
    safe: ClassVar[str] = "model.safetensors"
    instead: ClassVar[tuple[str, ...]] = ()
    missing: ClassVar[tuple[tuple[str, str], ...]] = ()
    tensor: ClassVar[str]
    known_by_name: ClassVar[bool] = True

    def publish(self, place: Path) -> Path:
        """Write a tiny published folder, and return what ``load`` is given."""
        raise NotImplementedError

    def state(self) -> dict[str, torch.Tensor]:
        """Return the tensors of that folder, all of them used."""
        raise NotImplementedError

    def cells(self) -> AnnData:
        """Return cells that the model knows: raw counts."""
        raise NotImplementedError

    def load(self, path: Path) -> Any:
        """Read a model as a user of Python does."""
        return self.model.load(path)

    @pytest.fixture
    def path(self, tmp_path: Path) -> Iterator[Path]:
        """Publish; notices of licences are not what is tested here."""
        with _quiet():
            yield self.publish(tmp_path / "published")

    @pytest.mark.parametrize("case", CASES, ids=" ".join)
    def test_hostile_weights(self, case: tuple[str, str], path: Path, tmp_path: Path) -> None:
        """Damaged and hostile weights end in one error and run nothing."""
        kind, name = case
        folder, canary = self._folder(path), tmp_path / "canary"
        for other in (self.weights, self.safe, *self.instead):
            (folder / other).unlink(missing_ok=True)
        if kind == "torch":
            written, data = self.weights, hostile_pickles(self.state(), canary)[name]
        else:
            written, data = self.safe, hostile_safetensors(self.state())[name]
        (folder / written).write_bytes(data)
        asked = folder / written if path.suffix else path
        with pytest.raises((UnreadableFileError, StateMismatchError)) as caught:
            self.load(asked)
        assert str(folder) in str(caught.value)
        with pytest.raises((UnreadableFileError, StateMismatchError)):
            cellweave.load(asked)
        assert not canary.exists()

    def test_half_a_download_is_told_as_damaged(
        self, path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Weights of which the end is missing are named, where their own name tells the family."""
        folder = self._folder(path)
        for other in (self.safe, *self.instead):
            (folder / other).unlink(missing_ok=True)
        torch.save(self.state(), folder / self.weights)
        whole = (folder / self.weights).read_bytes()
        (folder / self.weights).write_bytes(whole[: len(whole) // 2])
        assert main(["models", "check", str(path)]) == 2
        said = capsys.readouterr().err
        assert said.count("error:") == 1
        assert Path(self.weights).name in said
        if self.known_by_name:
            assert "Cannot read" in said

    def test_missing_files_are_named(self, path: Path, tmp_path: Path) -> None:
        """What is missing is told by name."""
        for i, (pattern, said) in enumerate(self.missing):
            again = self.publish(tmp_path / f"without {i}")
            found = list((tmp_path / f"without {i}").rglob(pattern))
            assert found, f"the folder holds no {pattern!r}"
            for file in found:
                file.unlink()
            with pytest.raises(UnreadableFileError, match=said):
                self.load(again)

    def test_check_prints_what_a_user_reports(
        self, path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """``cellweave models`` lists the family, and its check names tensors and an embedding."""
        assert main(["models", "check", str(path)]) == 0
        said = capsys.readouterr().out
        for part in (f"family: {self.model.family}", "embedding of the example cell", self.tensor):
            assert part in said
        assert main(["models"]) == 0
        listed = capsys.readouterr().out
        assert f"\n{self.model.family}: " in f"\n{listed}"
        assert str(self.model.card["weights licence"]) in listed

    def test_a_file_is_embedded_from_the_command_line(
        self, path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """``cellweave embed`` writes what ``embed`` gives, in the order of the file."""
        import anndata

        cells = self.cells()
        expected = self.load(path).embed(cells).values
        cells.write_h5ad(tmp_path / "cells.h5ad")
        out = tmp_path / "out.h5ad"
        assert main(["embed", str(path), str(tmp_path / "cells.h5ad"), "-o", str(out)]) == 0
        found = anndata.read_h5ad(out).obsm[f"X_{self.model.family}"]
        np.testing.assert_allclose(found, expected, atol=1e-5)

    def test_cells_of_which_no_gene_is_known_are_refused(self, path: Path) -> None:
        """The error shows a name of the data and one that the model knows."""
        strange = self.cells()
        strange.var_names = [f"odd{i}" for i in range(strange.n_vars)]
        strange.var = strange.var.drop(columns=list(strange.var.columns))
        model = self.load(path)
        with pytest.raises(DataError, match=r"None of .*odd0") as caught:
            model.embed(strange)
        assert str(model.tokenizer.table.features[0]) in str(caught.value)

    def test_the_folder_above_is_told_apart(self, path: Path, tmp_path: Path) -> None:
        """Who gives the folder around a model is told which folder to give."""
        folder = path if path.is_dir() else path.parent
        above = tmp_path / "downloads"
        above.mkdir()
        shutil.copytree(folder, above / "inner")
        if self.model.recognises(above) or not self.model.recognises(above / "inner"):
            pytest.skip("the family looks into folders by itself, or wants a file")
        with pytest.raises(UnreadableFileError, match=r"inner' looks like .*: give that"):
            cellweave.load(above)

    def test_logged_values_in_place_of_counts_are_noticed(self, path: Path) -> None:
        """A model of counts warns when values look normalised and logged, and not otherwise."""
        import warnings

        cells, model = self.cells(), self.load(path)
        with warnings.catch_warnings():
            warnings.simplefilter("error", DataNotice)
            model.embed(cells)
        logged = cells.copy()
        totals = np.asarray(logged.X.sum(axis=1)).ravel()
        logged.X.data = np.log1p(logged.X.data * np.repeat(1e4 / totals, np.diff(logged.X.indptr)))
        logged.X = logged.X.astype(np.float32)
        logged.layers.clear()
        if model.needs_counts:
            with pytest.warns(DataNotice, match="look logged"):
                model.embed(logged)

    def test_it_goes_through_our_own_folder(self, path: Path, tmp_path: Path) -> None:
        """What was read is saved and read again with the same vectors."""
        cells, model = self.cells(), self.load(path)
        model.save(tmp_path / "ours")
        again = cellweave.load(tmp_path / "ours")
        assert type(again) is type(model)
        assert np.array_equal(model.embed(cells).values, again.embed(cells).values)

    def test_hidden_genes_do_not_show(self, path: Path) -> None:
        """What the network says of hidden values does not depend on them."""
        model: Any = self.load(path)
        if model.reconstructs is None:
            pytest.skip("the weights have no head that fills in hidden genes")
        tokens = model.tokenizer.encode(self.cells()[:3])
        batch = TokenBatch.from_tokens(tokens, vocabulary=model.tokenizer.vocabulary)
        genes = torch.from_numpy(model.tokenizer.table.ids.astype(np.int64))
        hidden = torch.isin(batch.ids, genes)
        hidden[::2] = False
        if batch.values is None:
            other = batch.with_(ids=batch.ids.masked_fill(hidden, int(genes[0])))
        else:
            other = batch.with_(values=batch.values.masked_fill(hidden, 1.0))
        with torch.inference_mode():
            first, second = (model.filled(b, hidden) for b in (batch, other))
        assert len(first) == int(hidden.sum()) > 0
        assert torch.equal(first, second)

    def _folder(self, path: Path) -> Path:
        """Return the folder of the weights: ``weights`` is told from there."""
        return path if path.is_dir() else path.parent


@contextmanager
def _quiet() -> Iterator[None]:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LicenceNotice)
        yield
