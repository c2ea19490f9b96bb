"""The configuration loader: order of precedence, types, unions by name, and what every refusal says."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from robustsabn import config
from robustsabn.errors import ConfigError


@dataclass(frozen=True)
class Attack:
    eps: float = 8 / 255
    steps: int = 10
    start: Literal["uniform", "none"] = "uniform"

    def __post_init__(self) -> None:
        if self.eps <= 0:
            raise ConfigError(f"eps must be positive, got {self.eps}")
        if self.steps == 13:
            raise ConfigError("thirteen steps bring bad luck")


@dataclass(frozen=True)
class Pgd:
    pass


@dataclass(frozen=True)
class Trades:
    beta: float = 6.0
    inner: Attack = Attack(steps=7)


METHODS: dict[str, type] = {"pgd": Pgd, "trades": Trades}


@dataclass(frozen=True)
class Config:
    seed: int = 0
    out: str | None = None
    fast: bool = False
    data: str = "digits"
    milestones: tuple[int, ...] = (100, 150)
    betas: tuple[float, float] = (0.9, 0.999)
    size: int | str = "auto"
    options: dict[str, Any] = field(default_factory=dict)
    attack: Attack = field(default_factory=lambda: Attack(steps=20))
    method: Pgd | Trades = field(default_factory=Pgd, metadata=config.choices(METHODS))
    extra: Trades | None = field(default=None, metadata=config.choices(METHODS))


@dataclass(frozen=True)
class Needy:
    data: str
    attack: Attack = Attack()


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "run.yaml"
    path.write_text(text)
    return path


def test_defaults_then_file_then_overrides(tmp_path: Path) -> None:
    path = write(tmp_path, "seed: 3\nattack: {eps: 4/255}\n")
    got = config.load(Config, path, ["seed=5", "seed=6", "attack.start=none"])
    assert got == Config(seed=6, attack=Attack(eps=4 / 255, steps=20, start="none"))
    assert config.load(Config) == Config()
    assert config.load(Config, Config(seed=9), ["fast=true"]) == Config(seed=9, fast=True)
    assert config.load(Config, {"seed": 9, "attack": Attack(steps=2)}) == Config(
        seed=9, attack=Attack(steps=2)
    )


@pytest.mark.parametrize(
    ("override", "key", "value"),
    [
        ("attack.eps=8/255", "attack", Attack(eps=8 / 255, steps=20)),
        ("attack.eps=1e-3", "attack", Attack(eps=1e-3, steps=20)),
        ("attack={steps: 3}", "attack", Attack(steps=3)),
        ("seed=1e3", "seed", 1000),
        ("out=123", "out", "123"),
        ("out=none", "out", None),
        ("out=a=b", "out", "a=b"),
        ("data=npz:a b.npz", "data", "npz:a b.npz"),
        ("data=on", "data", "on"),
        ("fast=yes", "fast", True),
        ("milestones=1,2,3", "milestones", (1, 2, 3)),
        ("milestones=[1, 2]", "milestones", (1, 2)),
        ("milestones=[]", "milestones", ()),
        ("milestones=7", "milestones", (7,)),
        ("betas=[1/2, .9]", "betas", (0.5, 0.9)),
        ("size=4", "size", 4),
        ("size=auto", "size", "auto"),
        ("options.width=3", "options", {"width": 3}),
        ("options.cell=|none~0|+|none~0|", "options", {"cell": "|none~0|+|none~0|"}),
        ("method=trades", "method", Trades()),
        ("method.name=trades", "method", Trades()),
        ("method={name: trades, beta: 2}", "method", Trades(beta=2.0)),
        ("attack.start=None", "attack", Attack(steps=20, start="none")),
        ("attack.start=UNIFORM", "attack", Attack(steps=20)),
        ("extra=trades", "extra", Trades()),
        ("extra=none", "extra", None),
    ],
)
def test_override(override: str, key: str, value: object) -> None:
    loaded = config.load(Config, None, [override])
    assert config.load(Config, yaml.safe_load(config.dump(loaded))) == loaded
    got = getattr(loaded, key)
    assert got == value
    assert type(got) is type(value)


def test_a_named_union_keeps_its_values_until_the_name_changes(tmp_path: Path) -> None:
    path = write(tmp_path, "method: {name: trades, beta: 2, inner: {steps: 3}}")
    assert config.load(Config, path, ["method.inner.eps=1/2"]).method == Trades(2.0, Attack(eps=0.5, steps=3))
    assert config.load(Config, path, ["method=trades"]).method == Trades(2.0, Attack(steps=3))
    assert config.load(Config, path, ["method.name=pgd"]).method == Pgd()
    assert config.load(Config, None, ["method=trades", "method.inner.eps=1/2"]).method == Trades(
        inner=Attack(eps=0.5, steps=7)
    )


@pytest.mark.parametrize(
    ("text", "overrides", "said"),
    [
        (
            "attack:\n  epss: 1",
            [],
            "attack.epss: unknown key (did you mean eps?); allowed: eps, steps, start (run.yaml:2)",
        ),
        ("eps: 1", [], "eps: unknown key (did you mean attack.eps?)"),
        ("", ["attack.step=1"], "attack.step: unknown key (did you mean steps?)"),
        ("attack.eps: 1", [], "attack.eps: keys nest in a file; write attack: {eps: ...} (run.yaml:1)"),
        ("zzz: 1", [], "zzz: unknown key; allowed: seed, out"),
        ("\nseed: 1.5", [], "seed: expected a whole number, got 1.5 (run.yaml:2)"),
        ("seed: true", [], "seed: expected a whole number, got true"),
        ("fast: 1", [], "fast: expected true or false, got 1"),
        ("data: 3", [], "data: expected text, got 3; put it in quotes"),
        ("data:", [], "data: expected text, got nothing"),
        ("", ["attack.eps=8/0"], "attack.eps: expected a number, got '8/0' (override attack.eps=8/0)"),
        ("attack: {eps: .nan}", [], "attack.eps: expected a number, got nan"),
        ("attack: {eps: __import__('os')}", [], "attack.eps: expected a number"),
        ("attack: {start: normal}", [], "attack.start: expected one of uniform, none, got 'normal'"),
        ("attack: 3", [], "attack: expected a mapping with keys among eps, steps, start, got 3"),
        ("milestones: [1, x]", [], "milestones[1]: expected a whole number, got 'x'"),
        ("betas: [1]", [], "betas: expected a list of 2, each a number, got [1]"),
        ("size: 1.5", [], "size: expected a whole number or text, got 1.5"),
        ("attack:\n  eps: -1", [], "attack.eps must be positive, got -1.0 (run.yaml:2)"),
        ("attack: {steps: 13}", [], "attack: thirteen steps bring bad luck"),
        (
            "",
            ["method=trades", "method.inner.eps=0"],
            "method.inner.eps must be positive, got 0.0 (override method.inner.eps=0)",
        ),
        (
            "method: trade",
            [],
            "method.name: 'trade' is unknown (did you mean trades?); allowed: pgd, trades (run.yaml:1)",
        ),
        ("method: [1]", [], "method: expected a name or a mapping with one, got [1]; names: pgd, trades"),
        ("extra: {beta: 1}", [], "extra: the name is missing; names: pgd, trades"),
        ("method: {beta: 1}", [], "method.beta: unknown key"),
        ("", ["method.beta=1", "method=trades"], "method.beta: unknown key"),
        ("seed: 1\nseed: 2", [], "seed: written twice in one mapping (run.yaml:2)"),
        ("- 1", [], "maps keys to values"),
        ("a: [", [], "not valid YAML"),
        ("a: !!python/object/apply:os.getcwd []", [], "not valid YAML"),
        ("", ["seed"], "'seed' is not an override; write key=value"),
        ("", ["a..b=1"], "is not an override"),
        ("", ["milestones=[1"], "milestones: cannot read '[1' as a value"),
    ],
)
def test_refusals_name_the_place_and_the_remedy(
    tmp_path: Path, text: str, overrides: list[str], said: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        config.load(Config, write(tmp_path, text), overrides)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_value_is_named() -> None:
    with pytest.raises(ConfigError, match=r"^data: has no default"):
        config.load(Needy, {"attack": {"steps": 2}})
    assert config.load(Needy, {"attack": {"steps": 2}}, ["data=mnist"]) == Needy("mnist", Attack(steps=2))


def test_files_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file; give a YAML file or a recipe"):
        config.load(Config, tmp_path / "absent.yaml")
    with pytest.raises(ConfigError, match="no recipe 'no-such-recipe'"):
        config.load(Config, "no-such-recipe")
    with pytest.raises(ConfigError, match="not list"):
        config.load(Config, [1])


def test_merge_keys_and_anchors_work(tmp_path: Path) -> None:
    path = write(tmp_path, "options: &o {a: 1}\nextra: {name: trades, inner: {<<: {steps: 2}, eps: 1}}")
    assert config.load(Config, path).extra == Trades(inner=Attack(eps=1.0, steps=2))


WHOLE = st.integers(-(2**63) + 1, 2**63 - 1)


@given(
    st.builds(
        Config,
        seed=WHOLE,
        out=st.none() | st.sampled_from(["a", "8/255", "1e-3", "on", "x: y", "#", "ünï", "'"]),
        fast=st.booleans(),
        data=st.text(alphabet=st.characters(codec="utf-8", exclude_categories=("Cs", "Cc"))),
        milestones=st.lists(WHOLE).map(tuple),
        betas=st.tuples(*[st.floats(allow_nan=False, allow_infinity=False)] * 2),
        attack=st.builds(Attack, eps=st.floats(1e-300, 1e300), steps=st.integers(20, 2**63 - 1)),
        method=st.sampled_from([Pgd(), Trades(), Trades(beta=1e-5, inner=Attack(start="none"))]),
        extra=st.none() | st.just(Trades()),
    )
)
def test_dump_is_read_back_equal(original: Config) -> None:
    assert config.load(Config, yaml.safe_load(config.dump(original))) == original
    assert config.load(Config, config.to_dict(original)) == original
