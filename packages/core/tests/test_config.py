"""Configurations: unknown keys, bombs and wrong values are refused with words."""

from __future__ import annotations

import json
from typing import Literal

import pytest

from cellweave.config import PipelineConfig, coerce_arguments, load_config
from cellweave.config.arguments import parse_settings
from cellweave.config.described import settings_of
from cellweave.errors import ConfigError

GOOD = """
inputs: {rna: a.h5ad, atac: b.h5ad}
output: out.h5mu
integrator: {name: glue, parameters: {seed: 1}}
"""


def load(tmp_path, text, name="run.yaml"):
    path = tmp_path / name
    path.write_text(text)
    return load_config(path, PipelineConfig)


def test_a_good_file_is_read_and_its_schema_exported(tmp_path):
    plan = load(tmp_path, GOOD)
    assert plan.integrator.parameters == {"seed": 1}
    assert "integrator" in PipelineConfig.model_json_schema()["required"]
    same = load(tmp_path, plan.model_dump_json(), "run.json")
    assert same == plan


def test_all_problems_come_at_once_with_the_closest_key(tmp_path):
    text = "inputs: 3\nintegrater: {}\noutput: x.h5mu\nintegrator: {nam: glue}\n"
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text)
    words = str(caught.value)
    assert "Unknown key 'integrater'. Did you mean 'integrator'?" in words
    assert "Unknown key 'integrator.nam'. Did you mean 'name'?" in words
    assert "Key 'integrator.name' is missing" in words
    assert "'inputs" in words


BOMB = "a: &a [x, x]\n" + "\n".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join(['*' + chr(97 + i)] * 9)}]" for i in range(12)
)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("!!python/object/apply:os.system ['true']", "not valid YAML"),
        (BOMB, "aliases"),
        ("[" * 200, "not valid YAML"),
        ("just words", "holds a str"),
        ("a: [", "not valid YAML"),
        ("", "holds a NoneType"),
    ],
)
def test_what_is_no_configuration_is_refused(tmp_path, text, words):
    with pytest.raises(ConfigError, match=words):
        load(tmp_path, text)


def test_binary_missing_and_huge_files_are_refused(tmp_path):
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "huge.yaml").write_text("a: " + "x" * (1 << 21))
    for name, words in (("binary", "Cannot read"), ("gone", "Cannot read"), ("huge", "at most")):
        with pytest.raises(ConfigError, match=words):
            load_config(tmp_path / f"{name}.yaml", PipelineConfig)


class Thing:
    def __init__(self, *, n_steps: int = 3, rate: float = 0.1, keys: list[str] | None = None):
        self.values = (n_steps, rate, keys)


def test_arguments_are_coerced_by_their_annotations():
    given = parse_settings(["n_steps=5", "rate=1e-3", "keys=[a, b]"])
    made = Thing(**coerce_arguments(Thing, given, name="thing"))
    assert made.values == (5, 0.001, ["a", "b"])


def test_wrong_arguments_are_told_all_at_once():
    with pytest.raises(ConfigError) as caught:
        coerce_arguments(Thing, {"n_step": 3, "rate": "fast"}, name="thing")
    words = str(caught.value)
    assert "Unknown setting 'n_step'. Did you mean 'n_steps'?" in words
    assert "Setting 'rate' is 'fast'" in words


@pytest.mark.parametrize("pair", ["novalue", "=3"])
def test_a_setting_needs_key_and_value(pair):
    with pytest.raises(ConfigError, match="Write --set key=value"):
        parse_settings([pair])


def test_json_is_read_as_json(tmp_path):
    with pytest.raises(ConfigError, match="not valid"):
        load(tmp_path, "{'single': 'quotes'}", "run.json")
    values = {"inputs": ["a.h5ad"], "output": "o.h5mu", "integrator": {"name": "x"}}
    assert load(tmp_path, json.dumps(values), "ok.json").output.name == "o.h5mu"


class Base:
    """A base.

    Parameters
    ----------
    size, depth : int
        How large,
        and how deep.
    seed
        Of the base.

    Notes
    -----
    seed
        Not this.
    """


class Child(Base):
    """A child.

    Parameters
    ----------
    seed
        Of the child.
    """

    def __init__(self, *, size: int, depth: Literal["low", "high"] = "low", seed: int = 0) -> None:
        pass


def make_child(*, seed: int = 3) -> Child:
    """Make one."""
    return Child(size=1, seed=seed)


def test_settings_are_told_with_what_the_docstrings_say():
    told = {s.name: (s.kind, s.default, s.meaning) for s in settings_of(Child)}
    assert told == {
        "size": ("int", None, "How large, and how deep."),
        "depth": ("Literal['low', 'high']", "'low'", "How large, and how deep."),
        "seed": ("int", "0", "Of the child."),
    }
    assert [(s.default, s.meaning) for s in settings_of(make_child)] == [("3", "Of the child.")]
