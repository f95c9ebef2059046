"""YAML and JSON of a run that somebody else may have made: plain values, or one line."""

import json
from pathlib import Path
from typing import Any

import pytest
from command import run

from svdbench.config.compose import read
from svdbench.errors import UserError
from svdbench.files import (
    documents,
    json_value,
    read_environment,
    read_json,
    read_yaml,
    refuse_interpolations,
)

pytestmark = pytest.mark.usefixtures("elsewhere")

BOMB = "a0: &a0 [x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 8)}]\n" for i in range(1, 8)
)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (BOMB, "has aliases"),
        ("a: " + "[" * 50_000, "nest"),
        ("- " * 50_000, "nested more than 64 deep"),
        ('{"a":' * 100 + "1" + "}" * 100, "nested more than 64 deep"),
        ("- 1\n" * 300_000, "more than 250,000 values"),
        ("a: '" + "x" * (5 << 20) + "'", "larger than 4 MiB"),
        ("a: " + "1:" * 100_000 + "1", "more than 64 digits"),
        ("a: 0x" + "f" * 5_000, "more than 64 digits"),
        ("a: " + "9" * 30, "more than 64 bits"),
        ("!!python/object/apply:os.mkdir [touched]", "has YAML tags"),
        ("a: !!binary abcd", "has YAML tags"),
        ("1: 2", "has the key 1"),
        ("? [a]\n: b", "is not YAML"),
        ("a: 0x_", "is not YAML"),
        ("a: \0", "is not YAML"),
        ('a: "\\ud800"', "is not YAML"),
    ],
)
def test_yaml_that_svdbench_never_writes_is_refused(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says) as told:
        documents(text)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[" * 100_000, "nested more than 64 deep"),
        ('{"a":' * 100 + "1" + "}" * 100, "nested more than 64 deep"),
        ("9" * 5_000, "is not JSON"),
        ("1" + "0" * 400, "more than 64 bits"),
        ('{"a": ["\\ud800"]}', "unpaired surrogate"),
        ('{"\\udc00": 1}', "unpaired surrogate"),
        ("{", "is not JSON"),
        (b"\xff\xfe\xfd", "is not JSON"),
    ],
)
def test_json_that_svdbench_never_writes_is_refused(text: str | bytes, says: str) -> None:
    with pytest.raises(ValueError, match=says) as told:
        json_value(text)
    assert "\n" not in str(told.value)


def test_values_are_read_as_omegaconf_reads_them() -> None:
    text = "a: 4e9\nb: 1.0e-05\nc: 1_0\nd: null\ne: [1, x, true]\nf: 2020-01-01\ng: ${h}\n"
    assert documents(text) == [
        {"a": 4e9, "b": 1e-5, "c": 10, "d": None, "e": [1, "x", True], "f": "2020-01-01"}
        | {"g": "${h}"}
    ]


def test_a_file_is_regular_and_of_limited_size() -> None:
    Path("zeros").symlink_to("/dev/zero")
    with pytest.raises(OSError, match="not a regular file"):
        read_yaml("zeros")
    with Path("sparse.json").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(ValueError, match="larger than 8 MiB"):
        read_json("sparse.json")


@pytest.mark.parametrize(
    "changed",
    [{"gpus": 3}, {"gpus": [1]}, {"cpu": ["x"]}, {"source": "x"}, {"threads": [1]}, {"torch": {}}],
)
def test_an_environment_has_facts_of_the_right_kinds(changed: dict[str, Any]) -> None:
    Path("env.json").write_text(json.dumps({"cpu": "x", "gpus": [], **changed}))
    with pytest.raises(ValueError, match=f"was not written by svdbench: {next(iter(changed))}"):
        read_environment("env.json")


def test_an_interpolation_is_told() -> None:
    refuse_interpolations({"a": ["b", {"c": "$d"}]})
    with pytest.raises(ValueError, match=r"has the interpolation '\$\{oc.env:PATH\}'"):
        refuse_interpolations({"a": ["b", {"c": "${oc.env:PATH}"}]})
    with pytest.raises(UserError, match="has the interpolation"):
        read("train", "model_name: ${oc.env:PATH}")


# ------------------------------------------------------------------ runs of somebody else

ROW = "2,{job},r,x,ok,lstm,lstm,0.1,0,0\n"
COLUMNS = "schema_version,job,run_id,cell,status,model,method,loss,seed,epoch\n"


def sent(job: str, config: str) -> Path:
    """A run that somebody else has sent."""
    folder = Path("sent")
    folder.mkdir()
    (folder / "config.yaml").write_text(config)
    (folder / "env.json").write_text('{"cpu": "x"}')
    for name in ("summary", "samples", "layers"):
        (folder / f"{name}.csv").write_text(COLUMNS + ROW.format(job=job))
    return folder


@pytest.mark.parametrize("job", ["train", "accelerate", "compress", "time-fasth"])
@pytest.mark.parametrize("config", [BOMB, "a: " + "[" * 50_000], ids=["aliases", "brackets"])
def test_a_bomb_is_shown_as_text_and_not_compared(job: str, config: str) -> None:
    folder = sent(job, config)
    assert run(["report", str(folder)]).code == 0
    answer = run(["compare", str(folder), str(folder)])
    assert answer.code == 2
    assert "sent/config.yaml" in answer.err
    assert answer.err.count("\n") == 1


@pytest.mark.parametrize("job", ["train", "accelerate", "compress"])
def test_the_environment_of_who_reads_a_run_stays_private(
    job: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_OF_MINE", "correct horse")
    secret = "${oc.env:SECRET_OF_MINE}"
    number = f'{{method: "{secret}", column: "{secret}", value: 1, tolerance: 0}}'
    config = f'model_name: "{secret}"\nname: "{secret}"\nseed: "{secret}"\npublished: [{number}]\n'
    folder = sent(job, config)
    assert run(["report", str(folder)]).code == 0
    answer = run(["compare", str(folder), str(folder)])
    (folder / "progress.jsonl").write_text(f'{{"job": "{job}", "schema_version": 2}}\n')
    resumed = run([job, "--resume", str(folder)])
    assert resumed.code == 2
    assert "has the interpolation" in resumed.err
    told = answer.out + answer.err + resumed.err + (folder / "report.html").read_text()
    assert "correct horse" not in told
