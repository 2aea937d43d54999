"""Recipes as text: a page of settings that is checked to the letter."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from subtone import recipes
from subtone.errors import RecipeError
from subtone.recipes.data import section_for
from subtone.training import FrozenOptions


def test_every_recipe_has_a_name_and_a_line_that_tells_of_it() -> None:
    assert "sap" in recipes.names()
    for name in recipes.names():
        assert recipes.load_any(name).name == name
        assert "\n" not in recipes.describe(name)
    assert "arXiv" in recipes.describe("sap")


@pytest.mark.parametrize("changed", [False, True])
def test_what_is_shown_is_read_back_as_the_same_recipe(tmp_path: Path, changed: bool) -> None:
    for name in recipes.names():
        if not isinstance(recipes.load_any(name), recipes.Recipe):
            continue  # see test_recipes_paper_tables.py
        overrides = ("evaluation.resamples=777", "seeds=[3]") if changed else ()
        path = tmp_path / f"{name}.yaml"
        path.write_text(recipes.show(name, overrides), encoding="utf-8")
        recipe = recipes.load(path)
        assert recipe == recipes.load(name, overrides)
        shown = set(yaml.safe_load(path.read_text()))
        assert shown == set(recipes.Recipe.model_fields) - recipe.idle_sections


@pytest.mark.parametrize(
    ("name", "setting", "told"),
    [
        ("e2e-mean", "training.steps=7", "'training' means nothing .*'downstream' and 'finetuning'"),
        ("sap", "downstream.epochs=7", "'downstream' means nothing .*'training'"),
    ],
)
def test_a_section_that_would_change_nothing_is_told(name: str, setting: str, told: str) -> None:
    with pytest.raises(RecipeError, match=told):
        recipes.load(name, [setting])


def test_the_sap_recipe_compares_gap_with_gap_and_sap_by_speaker() -> None:
    sap = recipes.load("sap")
    assert sap.protocol.folds == "leave-one-speaker-out"
    assert sap.systems["gap"].statistics == ("gap_mean", "gap_std")
    assert sap.systems["gap+sap"].statistics == ("gap_mean", "gap_std", "sap_mean", "sap_std")
    assert ("gap", "gap+sap") in sap.compare
    assert sap.corpora["iemocap"].classes == ["anger", "happiness", "neutral", "sadness"]
    assert sap.corpora["iemocap"].merges == {"excitement": "happiness"}


def test_overrides_win_over_the_file_and_later_ones_over_earlier() -> None:
    plan = recipes.load(
        "sap",
        [
            "training.steps=7",
            "training.steps=9",
            "systems.sap.form=segment",
            "systems.new={pooling: sap, std: false}",
            "corpus.classes=[anger, sadness]",
            "training.components=null",
            "protocol.leaks=[]",
        ],
    )
    assert plan.training.options.steps == 9
    assert plan.systems["sap"].statistics == ("sap_segment_mean", "sap_segment_std")
    assert plan.systems["new"].statistics == ("sap_mean",)
    assert plan.corpus.classes == ["anger", "sadness"]
    assert plan.training.options.components is None
    assert plan.protocol.leaks == []


def test_a_recipe_without_training_trains_as_the_library_does(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("name: mine\ntitle: Mine\nupstream: fbank\nsystems: {gap: {pooling: gap}}\n")
    assert recipes.load(path).training.options == FrozenOptions()


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("trainig.steps=3", r"unknown key 'trainig'; did you mean 'training'\?"),
        ("training.step=3", r"unknown key 'training\.step'; did you mean 'steps'\?"),
        ("corpus.clases=[anger]", r"unknown key 'corpus\.clases'; did you mean 'classes'\?"),
        ("systems.sap.poling=gap", r"unknown key 'systems\.sap\.poling'; did you mean 'pooling'\?"),
        ("corpora.iemocap.merge={}", r"unknown key 'corpora\.iemocap\.merge'; did you mean 'merges'\?"),
        ("corpora.iemocapp.classes=[anger]", r"unknown corpus 'iemocapp'; did you mean 'iemocap'\?"),
        ("detector.nam=silero", r"unknown key 'detector\.nam'; did you mean 'name'\?"),
        ("steps=3", "unknown key 'steps'"),
        ("training.steps=0", r"training: steps = 0 must be at least 1"),
        ("training.steps=many", r"'training\.steps'"),
        ("training.steps=1.5", r"'training\.steps'"),
        ("training.dropout=1", r"dropout = 1.0 must lie in \[0, 1\)"),
        ("training.learning_rate=.nan", "learning_rate"),
        ("training.head=transformer", r"'training\.head'.*'linear' or 'mlp'"),
        ("training.layers=all", r"'training\.layers'"),
        ("systems.sap.pooling=gab", r"'gab' is not known; did you mean 'gap'\?"),
        ("systems.sap.pooling=gap+gap", "names a pooling twice"),
        ("systems.sap.form=attention", r"'systems\.sap\.form'"),
        ("systems={}", "'systems'"),
        ("systems.new={}", r"'systems\.new\.pooling' is missing"),
        ("systems.x (vote)={pooling: gap}", "added for the vote"),
        ("compare=[[gap, sapp]]", r"no system 'sapp'; there are: gap, sap, gap\+sap"),
        ("compare=[[gap]]", "'compare"),
        ("seeds=[]", "'seeds'"),
        ("seeds=[1, 1]", "a seed stands there twice"),
        ("seeds=[-1]", r"'seeds\.0'"),
        ("seeds=[99999999999]", r"'seeds\.0'"),
        ("protocol.seed=-1", r"'protocol\.seed'"),
        ("protocol.leaks=[speakers]", r"'protocol\.leaks\.0'"),
        ("protocol.dev_share=1", r"'protocol\.dev_share'"),
        ("protocol.k=1", r"'protocol\.k'"),
        ("evaluation.resamples=1", r"'evaluation\.resamples'"),
        ("name=null", "'name'"),
        ("training=3", "'training'"),
        ("training.steps", "write KEY=VALUE"),
        ("=3", "write KEY=VALUE"),
        ("seeds=[1", "no YAML"),
        ("seeds=" + "[" * 5000, "no YAML"),
        ("name.first=3", "'name' is a value, not a section"),
        ("upstream=!!python/object/apply:os.system [echo]", "no YAML"),
    ],
)
def test_a_setting_that_does_not_fit_is_told_by_its_name(override: str, told: str) -> None:
    with pytest.raises(RecipeError, match=told) as caught:
        recipes.load("sap", [override])
    assert "\n" not in str(caught.value)
    assert "pydantic" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "a recipe is a mapping"),
        ("- a\n", "a recipe is a mapping"),
        ("name: [\n", r"mine\.yaml: is no YAML"),
        ("a: &a [x]\nname: x\n", r"'title' is missing.*unknown key 'a'|unknown key 'a'"),
        ("name: x\ntitle: y\nupstream: fbank\n", "'systems' is missing"),
        ("!!python/object/apply:os.system [echo hi]\n", "is no YAML"),
        ("[" * 5000, "is no YAML"),
        ("\x00", "is no YAML"),
    ],
)
def test_a_file_that_is_no_recipe_is_named(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(RecipeError, match=told) as caught:
        recipes.load(path)
    assert str(path) in str(caught.value)


def test_a_recipe_that_is_not_there_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(
        RecipeError, match=r"'spa' is neither a file nor one of Subtone's; did you mean 'sap'\?"
    ):
        recipes.load("spa")
    with pytest.raises(RecipeError, match="neither a file"):
        recipes.load(tmp_path)
    (tmp_path / "latin.yaml").write_bytes("name: Gefühl".encode("latin-1"))
    with pytest.raises(RecipeError, match=r"latin\.yaml: cannot be read"):
        recipes.load(tmp_path / "latin.yaml")
    (tmp_path / "big.yaml").write_text("#" * 1_000_001)
    with pytest.raises(RecipeError, match="is over 1000000 bytes"):
        recipes.load(tmp_path / "big.yaml")


def test_reader_options_join_those_of_the_corpus_s_own_section() -> None:
    own = "corpora.manifest={classes: [anger], options: {root: clips, skip_unknown: false}}"
    section = section_for(
        recipes.load("sap", [own, "corpus.options.skip_unknown=true"]), {"manifest": "m.csv"}
    )
    assert section.options == {"root": "clips", "skip_unknown": True}
    assert section.classes == ["anger"]
