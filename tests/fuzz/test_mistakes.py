"""Mistakes that these tests have found once, and attempts to have something executed."""

import json
from pathlib import Path

import pytest
from judge import judged

import svdbench
from svdbench.config.compose import read
from svdbench.jobs.compress_model import CompressModel
from svdbench.members import MODELS

TIME = ["time-fasth", "--methods", "fasth", "--d", "8"]
HUGE = "1" + "0" * 12

MISTAKES = [
    # Hydra's and torch's own exceptions
    ([*TIME, "measure=null"], "give a name of default, quick, short"),
    ([*TIME, "orthogonal=3"], "give a name of cayley, "),
    (["time-fasth", "methods=[[fasth]]"], "cannot set 'methods'"),
    (["time-rnn", "sizes.reflectors=[[8]]"], "where a whole number belongs"),
    ([*TIME, "~orthogonal.fasth"], "leave it in"),
    ([*TIME, "orthogonal.fasth=3"], "set its options"),
    ([*TIME, "device=cudaxyz"], "choose cpu, cuda or cuda:N"),
    ([*TIME, "device=cuda:-1"], "choose cpu, cuda or cuda:N"),
    ([*TIME, f"threads={HUGE}"], "it must be from 1 to 1024"),
    ([*TIME, "seed=-1"], "it must be from 0 to"),
    ([*TIME, f"seed={HUGE}"], "it must be from 0 to"),
    (["train", "lstm", f"trainer.threads={HUGE}"], "it must be from 1 to 1024"),
    (["train", "lstm", "trainer.target=nan"], "and finite"),
    (["train", "lstm", f"model.hidden_size={HUGE}"], "not enough memory"),
    (["tune", "--d", HUGE], "not enough memory"),
    (["tune", "--d", "8", "--device", "cudaxyz"], "choose cpu"),
    # words of other libraries
    (
        ["time-fasth", "sizes.d=16"],
        "'sizes.d' to '16': give a list of whole numbers, as in sizes.d=[16]",
    ),
    ([*TIME, "dtype=[a,b]"], "give one of float64, float32, bfloat16, float16"),
    ([*TIME, "threads=1.5"], "cannot set 'threads' to '1.5': give a whole number, or null"),
    ([*TIME, "measure.min_reps=null"], "give a whole number"),
    ([*TIME, "sizes=3"], "give its keys one by one, as in sizes.d="),
    ([*TIME, "sizes.m=" + "x" * 10**5], "x…': give a whole number"),
    ([*TIME, "seed=1,2"], "has several values: add -m to have a run for each"),
    ([*TIME, "sizes.d=1,2"], "write sizes.d=[1,2] for a list, or add -m"),
    ([*TIME, "seed=range(3)"], "has several values: add -m"),
    ([*TIME, "name=é"], "put the value in quotes, as in \"name='é'\""),
    ([*TIME, "seed=[1"], "close its brackets and quotes"),
    ([*TIME, "seed=int(a)"], "int(a) has no value: check its arguments"),
    ([*TIME, "seed=${seed}"], "it refers to no key, or to one that doesn't fit"),
    ([*TIME, "+seed=3"], "cannot add 'seed', which is there already"),
    (["train", "lstm", "+task=."], "cannot add 'task', which is there already"),
    ([*TIME, "+nosuch=3"], "there is no key 'nosuch'"),
    ([*TIME, "++sizes.nosuch=3"], "there is no key 'sizes.nosuch'"),
    ([*TIME, "schema=train"], "there is no key 'schema'"),
    ([*TIME, "=3"], "is not KEY=VALUE"),
    ([*TIME, "measure=slow"], "no measure is called 'slow': known: default, quick, short"),
    (
        ["compress", "experiment=three_layer"],
        "did you mean 'three_layer_published'? known: factors_mnist",
    ),
    (
        ["compress", "experiment=svd_dnn_alpha"],
        "is not for this command, which has no key 'start'",
    ),
    (
        ["train", "lstm", "optimizer=nosuch"],
        "svdbench: no optimizer is called 'nosuch': known: adam",
    ),
    ([*TIME, "-m", "hydra/launcher=joblib", "hydra.launcher.n_jobs=x"], "give a whole number"),
    # lines
    (["time-fasth", "--methods", "a\nb"], r"a\nb"),
    (["time-fasth", "--methods", "x" * 10**5], "…"),
    (["report", "x" * 5000], "there is no folder"),
    *(
        (line, "is too long for the name of a file")
        for line in (
            ["time-fasth", "--resume", "x" * 300],
            ["train", "lstm", "--resume", "x" * 300],
            ["reproduce", "--results", "x" * 300],
        )
    ),
    *(
        ([*TIME, *line], "there is no key")
        for line in (
            ["x" * 3000 + "=1"],
            ["+" + "x" * 3000 + "=1"],
            ["-m", "x" * 3000 + "=1"],
            ["-m", "x" * 3000 + "/a=b"],
        )
    ),
    ([*TIME, "measure=" + "x" * 3000], "give a name of default, quick, short"),
    ([*TIME, "-m", "measure=" + "x" * 3000], "give a name of default, quick, short"),
    # NUL, which no name of a file can have
    *(
        (line, "has a NUL character: leave it out")
        for line in (
            ["report", "a\0b"],
            ["report", "--results", "a\0b"],
            ["compare", "a\0b", "b"],
            ["data", "list", "--data-dir", "a\0b"],
            ["reproduce", "--results", "a\0b"],
            ["compress", "a\0b:build"],
            ["compress", "json:loads", "--weights", "a\0b"],
            ["compress", "xor", "results='a\0b'"],
            ["train", "lstm", "--resume", "a\0b"],
            [*TIME, "--name", "a\0b"],
            [*TIME, "results='a\0b'"],
            [*TIME, "-m", "results='a\0b'", "seed=0,1"],
            [*TIME, "a\0b=1"],
        )
    ),
    # functions that need arguments
    *(
        ([*line, "--data", ".."], "json:loads can't be called without arguments: name a function")
        for line in (["compress", "json:loads"], ["rank-reveal", "json:loads"])
    ),
    (["compress", "math:log", "--data", "x:y"], "returns the model"),
    ([*TIME[:-1], "1", "--methods", "json:loads"], "is not a class derived from"),
    # more than there can be
    ([*TIME, "-m", "sizes.m=range(1,100000000)"], "more than 10,000 jobs"),
    ([*TIME, "-m", "sizes.m=range(1,200)", "seed=range(1,200)"], "more than 10,000 jobs"),
    ([*TIME, "-m", "sizes.m=range(0,inf)"], ""),
    ([*TIME, "-m", "sizes.m=range(0,3,0)"], ""),
    # names that leave their folder
    ([*TIME, "--name", "../up", "-m"], "can't name a run"),
    ([*TIME, "--name", "../up"], "can't name a run"),
    ([*TIME, "measure=../task/addition"], "points outside the folder of its group"),
    ([*TIME, "+schema/optimizer=../../x"], "points outside the folder of its group"),
    # code
    ([*TIME, "orthogonal.fasth._target_=os.system"], "names a class"),
    (["train", "lstm", "model._target_=os.system"], "names a class"),
    (["train", "lstm", "+model={_target_:os.system}"], "names a class"),
    (
        ["train", "lstm", "task._target_=x.Y"],
        "choose methods, models, tasks and launchers by their",
    ),
    ([*TIME, "-m", "hydra.launcher._target_=os.system"], "is not allowed in a sweep"),
    ([*TIME, "+hydra.callbacks={a:{_target_:os.mkdir,path:touched}}"], "is for sweeps"),
    # Hydra's own keys, whichever way they are written
    ([*TIME, "++hydra={sweep:{dir:touched}}"], "is for sweeps"),
    ([*TIME, "-m", "++hydra={sweep:{dir:touched}}"], "is not allowed in a sweep"),
    ([*TIME, "-m", "hydra@x=default"], "is not allowed in a sweep"),
    ([*TIME, "-m", "hydra/launcher@x=joblib"], "moves a group"),
    ([*TIME, "-m", "++hydra.launcher={_target_:os.system}"], "is not allowed in a sweep"),
    ([*TIME, "+optimizer@hydra.sweep=adam"], "is for sweeps"),
    ([*TIME, "measure@sizes=quick"], "moves a group to another key"),
    ([*TIME, "+x=[{y:{_target_:os.system}}]"], "names a class"),
    ([*TIME, "measure=[../task/addition]"], "points outside the folder of its group"),
    ([*TIME, "-m", "++name=a,b"], "name can't be swept"),
    # resolvers
    ([*TIME, "name=${oc.env:HOME}"], "calls a resolver"),
    ([*TIME, "--name", "${oc.env:HOME}"], "calls a resolver"),
    ([*TIME, "orthogonal.fasth={tune:['${oc.decode:x}']}"], "calls a resolver"),
    ([*TIME, "-m", "seed=1,${oc.env:HOME}"], "calls a resolver"),
    ([*TIME, "results=x${hydra:runtime.cwd}"], "calls a resolver"),
    # what a job needs
    (["train", "lstm", "~schema"], "takes a key out"),
    (["train", "lstm", "~model"], "takes a key out"),
    ([*TIME, "~sizes"], "takes a key out"),
    ([*TIME, "~seed=0"], "takes a key out"),
    ([*TIME, "-m", "~hydra/launcher"], "takes a key out"),
    ([*TIME, "--", "--experimental-rerun=a=b.pickle"], "is not KEY=VALUE"),
    ([*TIME, "--", "--config-dir=a=b"], "is not KEY=VALUE"),
]


@pytest.mark.parametrize(("line", "says"), MISTAKES, ids=lambda value: str(value)[:60])
def test_a_mistake_is_refused(line: list[str], says: str) -> None:
    assert says in judged(line, codes=(2,)).err


def test_a_mistake_is_told_under_a_debugger(monkeypatch: pytest.MonkeyPatch) -> None:
    """An exception of OmegaConf is then its own cause; so it is with this variable."""
    monkeypatch.setenv("OC_CAUSE", "1")
    answer = judged(["gradients", "lstm", "optimizer={a:1522}"], codes=(2,))
    assert "there is no key 'optimizer'" in answer.err


@pytest.mark.parametrize("key", ["results", "name"])
def test_no_path_has_a_nul_character(key: str) -> None:
    with pytest.raises(svdbench.UserError, match=f"{key} has a NUL character: leave it out"):
        svdbench.run("time-fasth", d=[8], methods=["fasth"], overrides=[f"{key}='a\0b'"])


def test_no_path_has_half_of_a_surrogate_pair() -> None:
    with pytest.raises(svdbench.UserError, match="results has half of a surrogate pair"):
        svdbench.run("time-fasth", d=[8], methods=["fasth"], results="\ud800")
    for line in ([*TIME, "results='\ud800'"], ["report", "\ud800"]):
        assert "has half of a surrogate pair: leave it out" in judged(line, codes=(2,)).err


@pytest.mark.parametrize("target", ["os.system", "svdbench.__main__.main", "svdbench.cli.main", ""])
def test_only_a_class_of_the_group_is_made(target: str) -> None:
    sizes = {"input_size": 2, "output_size": 1, "hidden_size": 3}
    assert type(MODELS.load("lstm", _target_=target, **sizes)).name == "lstm"


def test_a_configuration_alone_calls_no_function() -> None:
    """Of a run that somebody else has sent: the user has to name what is called."""
    own = {"model": {"build": "os:abort", "loader": "os:abort"}}
    text = json.dumps(own)  # JSON is YAML
    assert isinstance(read("compress_model", text)[0], CompressModel)
    folder = Path("sent")
    folder.mkdir()
    (folder / "config.yaml").write_text(text)
    (folder / "progress.jsonl").write_text('{"job": "compress-model", "schema_version": 2}\n')
    answer = judged(["compress", "--resume", "sent"], codes=(2,))
    assert "sent calls os:abort: to allow that, name the same again" in answer.err


@pytest.mark.parametrize(
    "text",
    [
        *("optimizer: 3", "- 1", "1", "''", "m", "null", "", "a: 1\n---\nb", "optimizer: ''"),
        *("a: &a [1]\nb: *a", "!!python/name:os.system", 'results: "a\\0b"'),
    ],
)
def test_a_configuration_of_another_kind_is_refused(text: str) -> None:
    folder = Path("sent")
    folder.mkdir()
    (folder / "config.yaml").write_text(text)
    (folder / "progress.jsonl").write_text('{"job": "train", "schema_version": 2}\n')
    assert "config.yaml" in judged(["train", "--resume", "sent"], codes=(2,)).err
