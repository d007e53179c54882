"""Each loss by hand on three genes, and each objective learns what was planted for it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from cellweave.errors import ConfigError, DataError
from cellweave_nn.batch import TokenBatch
from cellweave_nn.encoders.causal import causal_encoder
from cellweave_nn.encoders.generative import generative_encoder
from cellweave_nn.encoders.multiomic import multiomic_encoder
from cellweave_nn.encoders.transformer import TransformerEncoder
from cellweave_nn.objectives.adversarial import AdversarialBatch
from cellweave_nn.objectives.alignment import ModalityAlignment
from cellweave_nn.objectives.cell_conditioned import CellConditioned
from cellweave_nn.objectives.composed import Composed, WeightedObjective
from cellweave_nn.objectives.denoising import Denoising
from cellweave_nn.objectives.drawing import chosen_per_cell
from cellweave_nn.objectives.elastic import ElasticSimilarity
from cellweave_nn.objectives.generative_value import GenerativeValue
from cellweave_nn.objectives.heads import HeadShape
from cellweave_nn.objectives.masked_token import MaskedToken
from cellweave_nn.objectives.masked_value import MaskedValue
from cellweave_nn.objectives.next_gene import NextGene, generate
from cellweave_nn.objectives.ontology import (
    LabelSupervision,
    OntologyContrast,
    ontology_loss,
    ontology_weights,
)
from cellweave_nn.objectives.programmes import ProgrammeMasking
from cellweave_nn.objectives.read_depth import ReadDepthAware, beta_binomial_thinning
from cellweave_nn.objectives.views import TwoViews, paired_contrast
from cellweave_nn.objectives.zero_inflated import ZeroInflated
from cellweave_nn.outputs import Corrupted, EncoderOutput
from cellweave_nn.training.model import PretrainingModel

SHAPE = HeadShape(token_width=2, cell_width=2, n_ids=6)
SPECIAL = {"pad": 0, "mask": 1, "cls": 2}


@pytest.fixture(autouse=True)
def same_weights():
    """Draw the first weights alike, whichever tests ran before."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def three_genes(**changes):
    """One cell with the genes 3, 4, 5 and the values 1, 2, 3."""
    values = {
        "offsets": torch.tensor([0, 3]),
        "ids": torch.tensor([3, 4, 5]),
        "values": torch.tensor([1.0, 2.0, 3.0]),
        "special": SPECIAL,
        "n_ids": 6,
    }
    return TokenBatch(**(values | changes))


def outputs(batch, **heads):
    states = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    return EncoderOutput(
        token_states=states,
        cell_state=torch.tensor([[0.5, -1.0]]),
        token_embeddings=states,
        heads={name: Apply(f) for name, f in heads.items()},
    )


class Apply(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *x):
        return self.function(*x)


def first_feature(x):
    return x[:, 0]


HIDDEN = {"value_mask": torch.tensor([True, False, True]), "values": torch.tensor([1.0, 2.0, 3.0])}


def test_masked_token_by_hand():
    batch = three_genes()
    logits = torch.arange(6.0)
    out = outputs(batch, token=lambda x: logits.expand(len(x), 6) * x[:, :1])
    targets = {"token_mask": HIDDEN["value_mask"], "token_ids": batch.ids}
    found = MaskedToken().loss(out, Corrupted(batch=batch, targets=targets))["masked_token"]
    total = math.log(sum(math.exp(i) for i in range(6)))
    assert found.item() == pytest.approx(((total - 3) + (total - 5)) / 2, rel=1e-6)


def test_masked_token_shares():
    ids = torch.randint(3, 500, (20_000,), generator=torch.Generator().manual_seed(1))
    batch = TokenBatch(
        offsets=torch.tensor([0, 20_000]), ids=ids, special=SPECIAL, n_ids=500
    ).with_(ids=ids.index_fill(0, torch.arange(100), 2))
    made = MaskedToken().corrupt(batch, torch.Generator().manual_seed(0))
    hidden = made.targets["token_mask"]
    assert hidden.float().mean() == pytest.approx(0.15, abs=0.01)
    assert not hidden[:100].any()
    changed = made.batch.ids != batch.ids
    assert not (changed & ~hidden).any()
    assert (made.batch.ids[hidden] == 1).float().mean() == pytest.approx(0.8, abs=0.02)
    assert (~changed[hidden]).float().mean() == pytest.approx(0.1, abs=0.02)


@pytest.mark.parametrize("objective", [MaskedValue(), GenerativeValue(), ProgrammeMasking])
def test_value_losses_by_hand(objective):
    if objective is ProgrammeMasking:
        objective = ProgrammeMasking(programmes={"a": [3]})
    out = outputs(three_genes(), value=first_feature)
    terms = objective.loss(out, Corrupted(batch=three_genes(), targets=HIDDEN))
    assert sum(terms.values()).item() == pytest.approx(((1 - 1) ** 2 + (1 - 3) ** 2) / 2)


def test_cell_conditioned_by_hand():
    out = outputs(three_genes(), conditioned=lambda g, c: (g * c).sum(-1))
    found = CellConditioned().loss(out, Corrupted(batch=three_genes(), targets=HIDDEN))
    expected = ((0.5 - 1) ** 2 + (0.5 - 1.0 - 3) ** 2) / 2
    assert found["cell_conditioned"].item() == pytest.approx(expected)


def test_zero_inflated_by_hand():
    targets = HIDDEN | {"values": torch.tensor([1.0, 2.0, 0.0])}
    out = outputs(three_genes(), nonzero=lambda x: 2 * x[:, 0])
    found = ZeroInflated().loss(out, Corrupted(batch=three_genes(), targets=targets))
    p = 1 / (1 + math.exp(-2))
    assert found["zero_inflated"].item() == pytest.approx(-(math.log(p) + math.log(1 - p)) / 2)


def test_denoising_by_hand():
    out = outputs(three_genes(), value=first_feature)
    made = Corrupted(batch=three_genes(), targets={"clean": torch.tensor([1.0, 2.0, 3.0])})
    assert Denoising().loss(out, made)["denoising"].item() == pytest.approx((0 + 4 + 4) / 3)


def test_next_gene_by_hand():
    batch = three_genes()
    out = outputs(
        batch,
        next=lambda x: x[:, :1] * torch.arange(6.0),
        next_bin=lambda x: x[:, 1:] * torch.arange(4.0),
    )
    made = NextGene(n_bins=4).corrupt(batch, torch.Generator())
    terms = NextGene(n_bins=4).loss(out, made)
    full = math.log(sum(math.exp(i) for i in range(6)))
    assert terms["next_gene"].item() == pytest.approx(((full - 4) + math.log(6)) / 2)
    bins = math.log(sum(math.exp(i) for i in range(4)))
    assert terms["next_bin"].item() == pytest.approx((math.log(4) + (bins - 3)) / 2)


def test_paired_contrast_by_hand():
    a = F.normalize(torch.tensor([[1.0, 0.0], [0.0, 1.0]]), dim=1)
    b = F.normalize(torch.tensor([[1.0, 1.0], [-1.0, 1.0]]), dim=1)
    z, losses = torch.cat([a, b]), []
    for i, partner in enumerate([2, 3, 0, 1]):
        others = sum(math.exp(float(z[i] @ z[k]) / 0.5) for k in range(4) if k != i)
        losses.append(-math.log(math.exp(float(z[i] @ z[partner]) / 0.5) / others))
    assert paired_contrast(a, b, 0.5).item() == pytest.approx(np.mean(losses), rel=1e-6)


def test_alignment_by_hand():
    states = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8], [0.8, 0.6]])
    present = torch.ones(2, 2, dtype=torch.bool)
    out = EncoderOutput(
        token_states=states,
        cell_state=states,
        heads={"aligned": nn.Identity(), "scale": Apply(lambda s: 2 * s)},
    )
    made = Corrupted(batch=three_genes(), targets={"present": present})
    found = ModalityAlignment(cosine=0.5).loss(out, made)["alignment"].item()
    s = np.array([[0.6, 0.8], [0.8, 0.6]]) * 2
    rows = -np.log(np.exp(np.diag(s)) / np.exp(s).sum(1)).mean()
    columns = -np.log(np.exp(np.diag(s)) / np.exp(s).sum(0)).mean()
    assert found == pytest.approx((rows + columns) / 2 + 0.5 * (1 - 0.6), rel=1e-6)


def test_elastic_by_hand():
    states = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, -2.0]])
    out = EncoderOutput(token_states=states, cell_state=states)
    found = ElasticSimilarity(threshold=0.8).loss(out, None)["elastic"].item()
    s = [[0, 0.6, 0], [0.6, 0, 0], [0, 0, 0]]  # the third pair is negative: cut to 0
    assert found == pytest.approx(np.mean([1 - (x - 0.8) ** 2 for row in s for x in row]))


def test_adversarial_reverses_the_gradient_before_the_discriminator():
    state = torch.tensor([[0.5, -1.0]], requires_grad=True)
    head = nn.Linear(2, 2)
    batch = three_genes(context={"batch": torch.tensor([1])})
    out = EncoderOutput(token_states=state, cell_state=state, heads={"domain": head})
    loss = AdversarialBatch(n_batches=2, strength=0.5).loss(out, Corrupted(batch=batch, targets={}))
    plain = F.cross_entropy(head(state), torch.tensor([1]))
    assert loss["adversarial"].item() == pytest.approx(plain.item())
    ours = torch.autograd.grad(loss["adversarial"], [state, head.weight], retain_graph=True)
    theirs = torch.autograd.grad(plain, [state, head.weight])
    torch.testing.assert_close(ours[0], -0.5 * theirs[0])
    torch.testing.assert_close(ours[1], theirs[1])


def test_labels_by_hand_and_unknown_labels_are_left_out():
    state = torch.tensor([[1.0, 0.0], [5.0, 5.0]])
    batch = three_genes().select([0, 0]).with_(context={"cell_type": torch.tensor([0, -1])})
    out = EncoderOutput(token_states=state, cell_state=state, heads={"label": nn.Identity()})
    found = LabelSupervision(n_labels=2).loss(out, Corrupted(batch=batch, targets={}))["labels"]
    assert found.item() == pytest.approx(math.log(1 + math.exp(-1)))


def test_ontology_weights_follow_the_tree():
    #      0 cell
    #     1 blood    4 skin
    #   2 T   3 B    5 hair
    parents = [[], [0], [1], [1], [0], [4]]
    w = ontology_weights(parents)
    assert w[2, 2] == w[2, 1] == w[2, 0] == w[0, 2] == 0
    assert w[2, 5] > w[2, 4] > 0
    assert w[2, 5] > w[2, 3] > 0
    brute = np.linalg.matrix_power
    walk = np.array(
        [[0, 1, 0, 0, 1, 0], [1, 0, 1, 1, 0, 0], [0, 1, 0, 0, 0, 0]] + [[0] * 6] * 3, float
    )
    walk[3, 1] = walk[5, 4] = walk[4, 0] = walk[4, 5] = 1
    walk /= walk.sum(1, keepdims=True)
    rank = sum(0.1 * 0.9**k * brute(walk, k) for k in range(400))
    level = np.floor(np.log2(rank / 1e-4 + 1))
    assert w[2, 5] == pytest.approx(1 - level[2, 5] / level.max(), abs=1e-6)


def test_ontology_loss_by_hand():
    z = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]])
    weights = torch.zeros(6, 6)
    weights[2, 5] = weights[5, 2] = 0.4
    found = ontology_loss(z, torch.tensor([2, 2, 5]), weights, 0.5).item()
    pull = math.exp(0.6 / 0.5)
    pushes = [0.4 * math.exp(0.0), 0.4 * math.exp(0.8 / 0.5)]
    assert found == pytest.approx(np.mean([-math.log(pull / (pull + p)) for p in pushes]), rel=1e-6)


def test_read_depth_loss_by_hand():
    special = SPECIAL | {"target_depth": 6, "source_depth": 7}
    counts = torch.tensor([500.0, 300.0, 700.0])
    batch = three_genes(values=counts, special=special, n_ids=8)
    objective = ReadDepthAware(thinned=0.0, nonzero_fraction=1.0)
    made = objective.corrupt(batch, torch.Generator().manual_seed(0))
    assert made.batch.values[:3].tolist() == [-1.0] * 3
    states = torch.tensor([[1.0, 0], [2.0, 0], [3.0, 0], [9.0, 0], [9.0, 0]])
    out = EncoderOutput(
        token_states=states, cell_state=states[:1], heads={"value": Apply(first_feature)}
    )
    aims = [math.log1p(1e4 * c / 1500) for c in (500, 300, 700)]
    expected = np.mean([(p - a) ** 2 for p, a in zip((1, 2, 3), aims, strict=True)])
    assert objective.loss(out, made)["read_depth"].item() == pytest.approx(expected, rel=1e-5)


def test_generation_counts_are_exact_and_spare_special_tokens():
    lengths = [8, 5, 3]
    ids = torch.cat([torch.tensor([2, *range(3, 2 + n)]) for n in lengths])
    batch = TokenBatch(offsets=torch.tensor([0, 8, 13, 16]), ids=ids, special=SPECIAL, n_ids=12)
    hidden = chosen_per_cell(batch, 0.5, torch.Generator().manual_seed(0))
    assert [int(h.sum()) for h in hidden.split(lengths)] == [3, 2, 1]
    assert not hidden[batch.offsets[:-1]].any()


def test_beta_binomial_thinning_has_the_moments_it_should():
    counts = torch.full((20_000,), 40.0)
    cell = torch.arange(20_000)
    thin = beta_binomial_thinning(counts, cell, 20_000, 2, 2, torch.Generator().manual_seed(0))
    n, a, b = 40, 2, 2
    variance = n * a * b * (a + b + n) / ((a + b) ** 2 * (a + b + 1))
    assert thin.mean().item() == pytest.approx(20, rel=0.02)
    assert thin.var().item() == pytest.approx(variance, rel=0.05)
    assert (thin <= counts).all()
    assert (thin == thin.round()).all()


def test_read_depth_appends_source_and_target_depth():
    special = SPECIAL | {"target_depth": 6, "source_depth": 7}
    batch = three_genes(values=torch.tensor([500.0, 300.0, 700.0]), special=special, n_ids=8)
    objective = ReadDepthAware(thinned=1.0, nonzero_fraction=0.0)
    made = objective.corrupt(batch, torch.Generator().manual_seed(0))
    assert made.batch.ids.tolist() == [3, 4, 5, 6, 7]
    t, s = made.batch.values[3:].tolist()
    assert t == pytest.approx(math.log10(1500))
    assert s < t
    torch.testing.assert_close(made.targets["values"][:3], torch.log1p(1e4 * batch.values / 1500))
    with pytest.raises(DataError, match="needs raw counts"):
        objective.corrupt(batch.with_(values=batch.values + 0.5), torch.Generator())


@pytest.mark.parametrize(
    ("mode", "left", "hidden"),
    [
        ("programme", [3, 4, 5], [3]),
        ("programme_to_programme", [3, 4], [4]),
        ("programme_to_tf", [3, 5], [5]),
    ],
)
def test_programme_masking_modes(mode, left, hidden):
    """Two programmes {3} and {4} and a factor {5}: whichever is drawn, the roles are these."""
    objective = ProgrammeMasking(programmes={"a": [3], "b": [4]}, mode=mode, factors=(5,))
    swap = {3: 4, 4: 3, 5: 5}
    for seed in range(6):
        made = objective.corrupt(three_genes(), torch.Generator().manual_seed(seed))
        found = made.batch.ids.tolist(), made.batch.ids[made.targets["value_mask"]].tolist()
        mirrored = sorted(swap[i] for i in left), [swap[i] for i in hidden]
        assert (sorted(found[0]), found[1]) in ((left, hidden), mirrored)


def test_composed_terms_are_weighted_share_heads_and_clash_in_words():
    both = Composed(
        parts={
            "gep": WeightedObjective(objective=MaskedValue(), weight=2.0),
            "mvc": WeightedObjective(objective=CellConditioned(), weight=0.5),
            "zero": WeightedObjective(objective=ZeroInflated()),
        }
    )
    assert sorted(both.heads(SHAPE)) == ["conditioned", "nonzero", "value"]
    made = both.corrupt(three_genes(), torch.Generator().manual_seed(0))
    out = outputs(
        three_genes(), value=first_feature, conditioned=lambda g, c: c[:, 0], nonzero=first_feature
    )
    alone = MaskedValue().loss(out, made)["masked_value"]
    assert both.loss(out, made)["masked_value"] == 2 * alone
    clash = Composed(
        parts={
            "one": WeightedObjective(objective=MaskedValue()),
            "two": WeightedObjective(objective=GenerativeValue()),
        }
    )
    with pytest.raises(ConfigError, match="'two' hides value_mask, values, which another hides"):
        clash.corrupt(three_genes(), torch.Generator())
    with pytest.raises(ConfigError, match="needs the target 'value_mask', which no objective"):
        CellConditioned().loss(out, Corrupted(batch=three_genes(), targets={}))
    with pytest.raises(ConfigError, match="Use one of them"):
        Composed(
            parts={
                "a": WeightedObjective(objective=TwoViews()),
                "b": WeightedObjective(objective=ModalityAlignment()),
            }
        )


# -------------------------------------------------------------------- planted structure


def planted(n=96, *, seed=0, modalities=False):
    """Cells of two types over eight genes; a type has high odd or high even genes."""
    g = torch.Generator().manual_seed(seed)
    kind = torch.arange(n) % 2
    parity = (torch.arange(8)[None, :] + kind[:, None]) % 2
    values = 0.2 + 2.0 * parity + 0.05 * torch.rand(n, 8, generator=g)
    return TokenBatch(
        offsets=torch.arange(n + 1) * 8,
        ids=(torch.arange(8) + 3).repeat(n),
        values=values.flatten(),
        modality=(torch.arange(8) // 4).repeat(n) if modalities else None,
        context={"cell_type": kind, "batch": torch.arange(n) // 2 % 2},
        special=SPECIAL,
        n_ids=11,
    )


def trained(objective, *, steps=60, encoder=None, data=planted, lr=3e-3):
    """Train a tiny model; return it with its first and last total loss."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        encoder = encoder or TransformerEncoder(
            n_ids=11, width=16, depth=1, heads=2, values="continuous"
        )
        model = PretrainingModel(
            encoder, Composed(parts={"it": WeightedObjective(objective=objective)})
        )
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    losses = []
    for step in range(steps):
        generator = torch.Generator().manual_seed(step)
        terms = model(model.objective.corrupt(data(seed=step), generator))
        total = sum(terms.values())
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        losses.append(total.item())
    return model.eval(), np.mean(losses[:3]), np.mean(losses[-5:])


def test_masked_value_learns_the_other_genes_pattern():
    _, first, last = trained(MaskedValue(), steps=150, lr=1e-2)
    assert last < 0.2 < first  # the type's mean alone would leave a variance of 1


def test_masked_token_learns_which_gene_is_missing():
    """Cells of type 0 hold the genes 3 to 6, of type 1 the genes 7 to 10."""

    def data(*, seed):
        batch = planted(48, seed=seed)
        of_type = (batch.ids < 7) == (batch.context["cell_type"][batch.cell_of_token()] == 0)
        return batch.keep(of_type).with_(values=None)

    encoder = TransformerEncoder(n_ids=11, width=16, depth=1, heads=2)
    objective = MaskedToken(fraction=0.3)
    _, first, last = trained(objective, encoder=encoder, data=data, steps=150, lr=1e-2)
    assert first > 2.0
    assert last < 1.2  # without the others a masked gene is one of eight: log 8 = 2.08


def test_cell_conditioned_puts_the_type_into_the_cell_state():
    model, _, last = trained(CellConditioned(fraction=0.3), steps=150, lr=1e-2)
    assert last < 0.3
    assert separation(model) > 3


def test_generative_learns_in_both_passes():
    encoder = generative_encoder(n_ids=11, width=16, depth=1, heads=2)
    model, first, _ = trained(GenerativeValue(), encoder=encoder, steps=200, lr=5e-3)
    made = model.objective.corrupt(planted(seed=9), torch.Generator().manual_seed(9))
    terms = model(made)
    assert set(terms) == {"generative", "generative_again"}
    assert terms["generative"] < 0.2 * first
    assert terms["generative_again"] < 0.2 * first


def test_zero_inflated_learns_where_zeros_are():
    def data(*, seed):
        batch = planted(seed=seed)
        return batch.with_(values=batch.values.masked_fill(batch.values < 1, 0.0))

    _, first, last = trained(ZeroInflated(fraction=0.4), data=data, steps=100, lr=5e-3)
    assert first > 0.6
    assert last < 0.1


def test_programmes_learn_one_from_another():
    programmes = {"a": [3, 4, 5, 6], "b": [7, 8, 9, 10]}
    objective = ProgrammeMasking(programmes=programmes, mode="programme_to_programme")
    _, _, last = trained(objective, steps=120, lr=5e-3)
    assert last < 0.2


def test_two_views_gather_cells_and_labels_order_them():
    """Views of one cell share its own level of expression; cells differ in it."""

    def data(*, seed):
        batch = planted(16, seed=seed)
        level = torch.linspace(0.2, 3.0, 16).repeat_interleave(8)
        return batch.with_(values=level + 0.01 * batch.values)

    _, first, last = trained(TwoViews(left_out=0.3), data=data, steps=120, lr=5e-3)
    assert first > 2.5
    assert last < 0.65 * first


def test_alignment_finds_the_partner():
    def data(*, seed):
        batch = planted(16, seed=seed, modalities=True)
        level = torch.linspace(0.2, 3.0, 16).repeat_interleave(8)
        return batch.with_(values=level + 0.01 * batch.values)

    encoder = multiomic_encoder(n_ids=11, width=16, depth=1, heads=2, n_modalities=2)
    _, first, last = trained(ModalityAlignment(), encoder=encoder, data=data, steps=120, lr=5e-3)
    assert last < 0.6 * first


def test_joint_alignment_leaves_out_cells_without_a_modality():
    batch = planted(4, modalities=True)
    mosaic = batch.keep(~((batch.cell_of_token() == 0) & (batch.modality == 1)))
    made = ModalityAlignment(separate=False).corrupt(mosaic, torch.Generator())
    assert made.targets["present"].tolist() == [[True, False]] + [[True, True]] * 3


def similarities(model, codes="cell_type"):
    """Mean cosine of pairs of one type, and of pairs of two types."""
    batch = planted(seed=77)
    unit = F.normalize(model.encoder(batch).cell_state.detach(), dim=1)
    same = batch.context[codes][:, None] == batch.context[codes][None, :]
    cosine, apart = unit @ unit.T, ~torch.eye(len(unit), dtype=torch.bool)
    return cosine[same & apart].mean().item(), cosine[~same].mean().item()


def test_elastic_gathers_what_is_alike_and_spreads_the_rest():
    start, _, _ = trained(ElasticSimilarity(), steps=3, lr=0.0)
    within, between = similarities(start)
    assert within > between
    threshold = (within + between) / 2
    model, first, last = trained(ElasticSimilarity(threshold=threshold), steps=80, lr=5e-3)
    assert last < first
    now_within, now_between = similarities(model)
    assert now_within > 0.99
    assert now_between < between - 0.2


def two_signals(*, seed, n=96):
    """Cells of two types from two batches: odd or even genes, and the low or the high half."""
    g = torch.Generator().manual_seed(seed)
    kind, batch = torch.arange(n) % 2, torch.arange(n) // 2 % 2
    gene = torch.arange(8)[None, :]
    of_type, of_batch = (gene + kind[:, None]) % 2, (gene < 4) == (batch[:, None] == 0)
    level, noise = torch.rand(n, 1, generator=g), torch.rand(n, 8, generator=g)
    values = 0.2 + 2.0 * of_type + 1.5 * of_batch + level + 0.3 * noise
    context = {"cell_type": kind, "batch": batch}
    return planted(n).with_(values=values.flatten(), context=context)


def share_between(state, codes, given):
    """Share of what varies within the groups ``given`` that lies between those of ``codes``."""
    state = state - torch.stack([state[given == k].mean(0) for k in (0, 1)])[given]
    means = torch.stack([state[codes == k].mean(0) for k in (0, 1)])[codes]
    return (means.square().sum() / state.square().sum()).item()


def signals_left(*, adversary):
    """Train an encoder on hidden values; return the shares of batch and type in its states."""
    parts = {"gep": WeightedObjective(objective=MaskedValue(fraction=0.3))}
    if adversary:
        parts["dar"] = WeightedObjective(objective=AdversarialBatch(n_batches=2))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        encoder = TransformerEncoder(n_ids=11, width=16, depth=1, heads=2, values="continuous")
        model = PretrainingModel(encoder, Composed(parts=parts))
    # A discriminator is only as good a teacher as it is ahead of what it teaches.
    ahead = [p for n, p in model.named_parameters() if "domain" in n]
    rest = [p for n, p in model.named_parameters() if "domain" not in n]
    optimizer = torch.optim.Adam([{"params": ahead, "lr": 1e-2}, {"params": rest}], lr=1e-3)
    for step in range(300):
        made = model.objective.corrupt(two_signals(seed=step), torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        sum(model(made).values()).backward()
        optimizer.step()
    fresh = two_signals(seed=1001, n=200)
    state = model.eval().encoder(fresh).cell_state.detach()
    kind, batch = fresh.context["cell_type"], fresh.context["batch"]
    return share_between(state, batch, kind), share_between(state, kind, batch)


def test_adversarial_training_takes_the_batch_out_of_an_encoder_and_leaves_the_type():
    batch_before, type_before = signals_left(adversary=False)
    batch_after, type_after = signals_left(adversary=True)
    assert batch_before > 0.1
    assert batch_after < 0.5 * batch_before
    assert type_after > 0.8 * type_before


@pytest.mark.parametrize("prototypes", [False, True])
def test_labels_are_learned(prototypes):
    model, first, last = trained(LabelSupervision(n_labels=2, prototypes=prototypes), lr=1e-2)
    assert last < 0.05 < first
    assert separation(model) > 3


def test_ontology_contrast_gathers_the_cells_of_a_type():
    parents = [[], [0], [1], [1], [0], [4]]

    def data(*, seed):
        batch = planted(24, seed=seed)
        kind = torch.tensor([2, 3, 5]).repeat(8)
        values = (kind[:, None] == torch.tensor([2, 2, 3, 3, 5, 5, 0, 0])) * 2.0 + 0.1
        return batch.with_(values=values.flatten(), context={"cell_type": kind})

    model, first, last = trained(OntologyContrast(parents=parents), data=data, lr=1e-2)
    assert last < 0.5 * first
    batch = data(seed=99)
    z = model.heads["ontology"](model.encoder(batch).cell_state).detach()
    means = torch.stack([z[batch.context["cell_type"] == k].mean(0) for k in (2, 3, 5)])
    alike = means @ means.T
    assert alike.diagonal().min() > 0.8
    assert alike.fill_diagonal_(-1).max() < 0.5


def leaning_to_siblings(parents, *, seed):
    """Settle six types, three to a parent, on a sphere with room for all to lie apart.

    Return how much more siblings are alike than strangers.
    """
    weights = torch.from_numpy(ontology_weights(parents))
    places = torch.randn(6, 3, generator=torch.Generator().manual_seed(seed), requires_grad=True)
    optimizer = torch.optim.Adam([places], lr=0.05)
    kinds = torch.arange(3, 9).repeat_interleave(2)
    for _ in range(300):
        z = F.normalize(places, dim=1).repeat_interleave(2, 0)
        optimizer.zero_grad()
        ontology_loss(z, kinds, weights, 0.5).backward()
        optimizer.step()
    unit = F.normalize(places.detach(), dim=1)
    alike, family = unit @ unit.T, torch.arange(6) // 3
    siblings = (family[:, None] == family) & ~torch.eye(6, dtype=torch.bool)
    strangers = family[:, None] != family
    return float(alike[siblings].mean() - alike[strangers].mean())


@pytest.mark.parametrize("seed", range(3))
def test_ontology_places_siblings_nearer_than_strangers(seed):
    tree = [[], [0], [0], [1], [1], [1], [2], [2], [2]]
    flat = [[], *([[0]] * 8)]
    assert leaning_to_siblings(tree, seed=seed) > leaning_to_siblings(flat, seed=seed) + 0.1


def test_denoising_beats_leaving_the_noise():
    _, _, last = trained(Denoising(dropped=0.25, noise=0.1), steps=150, lr=5e-3)
    assert last < 0.15  # a quarter of values lost: leaving them costs about 0.6


def test_read_depth_learns_the_deep_profile():
    def data(*, seed):
        batch = planted(seed=seed)
        special = SPECIAL | {"target_depth": 11, "source_depth": 12}
        counts = (batch.values * 400).round()
        return batch.with_(values=counts, special=special, n_ids=13)

    encoder = TransformerEncoder(n_ids=13, width=16, depth=1, heads=2, values="continuous")
    _, first, last = trained(ReadDepthAware(), encoder=encoder, data=data, steps=120, lr=1e-2)
    assert last < 0.1 * first


def test_next_gene_learns_the_order_and_generates_it():
    def data(*, seed):
        return planted(32, seed=seed).with_(values=(torch.arange(8.0) % 3).repeat(32))

    encoder = causal_encoder(n_ids=11, width=16, depth=1, heads=2, n_bins=4)
    model, _, last = trained(NextGene(n_bins=4), encoder=encoder, data=data, lr=1e-2)
    assert last < 0.1
    start = data(seed=0).select([0]).keep(torch.arange(8) < 2)
    made = generate(model.encode, start, steps=6)
    assert made.ids.tolist() == [3, 4, 5, 6, 7, 8, 9, 10]
    assert made.values.tolist() == [0, 1, 2, 0, 1, 2, 0, 1]
    ended = generate(model.encode, start, steps=6, end_id=5)
    assert ended.ids.tolist() == [3, 4, 5, 5, 5, 5, 5, 5]


def separation(model):
    """Distance of the two types over the spread within them."""
    batch = planted(seed=77)
    state = model.encoder(batch).cell_state.detach()
    one, two = (state[batch.context["cell_type"] == k] for k in (0, 1))
    within = torch.cat([one - one.mean(0), two - two.mean(0)]).norm(dim=1).mean()
    return ((one.mean(0) - two.mean(0)).norm() / within).item()
