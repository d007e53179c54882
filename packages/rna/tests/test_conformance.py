"""The contracts of RNA's parts, by the suites that ship with the core."""

from pathlib import Path

import pytest

from cellweave.testing import ModalitySuite, TokenizerSuite
from cellweave_rna import tokenizers as made
from cellweave_rna.modality import RnaModality


class TestRna(ModalitySuite):
    def create(self, **arguments):
        return RnaModality(**arguments)


class TestRank(TokenizerSuite):
    def create(self, **arguments):
        return made.RankTokenizer(start=True, end=True, **arguments)


class TestBins(TokenizerSuite):
    tags = frozenset({"stochastic"})

    def create(self, **arguments):
        return made.BinTokenizer(n_bins=11, **arguments)


class TestValues(TokenizerSuite):
    def create(self, **arguments):
        return made.ValueTokenizer(depth="fixed", **arguments)


class TestFixed(TokenizerSuite):
    def create(self, **arguments):
        return made.FixedTokenizer(**arguments)


class TestGeneSet(TokenizerSuite):
    @pytest.fixture(autouse=True)
    def _gmt(self, tmp_path_factory):
        if not hasattr(type(self), "gmt"):
            path = tmp_path_factory.mktemp("sets") / "sets.gmt"
            genes = [str(name) for name in self.plain_data().var_names]
            sets = [genes[i : i + 10] for i in range(0, min(len(genes), 400), 10)]
            lines = [f"SET{i}\tabout\t" + "\t".join(members) for i, members in enumerate(sets)]
            path.write_text("\n".join(lines))
            type(self).gmt = str(path)

    def plain_data(self):
        from cellweave.testing import planted

        return planted.planted(("rna",), n_cells=20).mod["rna"]

    def create(self, **arguments):
        return made.GeneSetTokenizer(gmt=getattr(self, "gmt", str(Path("x.gmt"))), **arguments)


class TestSentence(TokenizerSuite):
    tags = frozenset({"stochastic"})

    def create(self, **arguments):
        return made.SentenceTokenizer(**arguments)


class TestCell(TokenizerSuite):
    def create(self, **arguments):
        return made.CellTokenizer(**arguments)


class TestChromosome(TokenizerSuite):
    tags = frozenset({"stochastic"})

    def create(self, **arguments):
        return made.ChromosomeTokenizer(n_draws=256, **arguments)


class TestUnique(TokenizerSuite):
    tags = frozenset({"stochastic"})

    def create(self, **arguments):
        return made.UniqueTokenizer(max_length=150, overflow="sample", **arguments)
