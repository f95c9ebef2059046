"""``svdbench report``: pages that hold all of a run, escape all of it, and need nothing else."""

import json
import shlex
import shutil
from base64 import b64encode
from hashlib import sha256
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import yaml
from command import assert_mistake, run
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure

from svdbench.jobs.report.run import report_of
from svdbench.record.reader import Sheet, endings, find_runs, progress, read_run
from svdbench.record.run import RunWriter
from svdbench.record.schema import SUMMARY, TRAINED, TableSchema
from svdbench.reporting.html.columns import payload
from svdbench.reporting.html.page import pictures
from svdbench.reporting.report import Report
from svdbench.running.repeat import repeat

ROOT = Path(__file__).resolve().parents[1]
REFERENCE = ROOT / "results/reference"
ENVIRONMENT = {"timestamp_utc": "2026-01-02T03:04:05+00:00", "cpu": "A CPU", "threads": 2}
EVIL = """</script><script>alert(1)</script><img src=x onerror="alert(2)">'"&"""


class Page(HTMLParser):
    """What is in a page: elements with their attributes, scripts, and the text to read."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.scripts: list[tuple[dict[str, str], str]] = []
        self.styles: list[str] = []
        self.text = ""
        self.inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {key: value or "" for key, value in attrs}
        self.elements.append((tag, found))
        self.inside = tag
        if tag == "script":
            self.scripts.append((found, ""))

    def handle_endtag(self, tag: str) -> None:
        self.inside = ""

    def handle_data(self, data: str) -> None:
        if self.inside == "script":
            attributes, before = self.scripts.pop()
            self.scripts.append((attributes, before + data))
        elif self.inside == "style":
            self.styles.append(data)
        else:
            self.text += data

    def values(self, attribute: str) -> list[str]:
        return [found[attribute] for _, found in self.elements if attribute in found]

    def tables(self) -> dict[str, dict[str, Any]]:
        """The data tables by name."""
        found = [json.loads(text) for attributes, text in self.scripts if "id" in attributes]
        return {table["name"]: table for table in found}


def make(
    job: str, name: str, table: TableSchema, *rows: dict[str, Any], config: str = "seed: 0\n"
) -> Path:
    """A run of so many rows in ``results``."""
    with RunWriter.create("results", job, name, config=config, env=ENVIRONMENT) as record:
        for i, row in enumerate(rows):
            record.append(table, {"cell": f"c{i}", "status": "ok", **row})
    return record.folder


def timing(**changes: Any) -> dict[str, Any]:
    """A row of a timing summary."""
    usual = {"method": "fasth", "d": 64, "m": 32, "device": "cpu", "dtype": "float32", "threads": 2}
    return usual | {"pass": "step", "median_s": 0.002, "of_floor": 0.5} | changes


def page_of(*arguments: str) -> Page:
    """The page that ``svdbench report`` writes."""
    answer = run(["report", *arguments])
    assert answer.code == 0, answer.err
    return Page(Path(answer.out.splitlines()[0]).read_text(encoding="utf-8"))


def rows_of(table: dict[str, Any]) -> dict[str, list[Any]]:
    """The columns of a payload, with all their values."""
    return {
        column["name"]: [column["dict"][code] for code in column["codes"]]
        if "codes" in column
        else column["values"]
        for column in table["columns"]
    }


@pytest.mark.usefixtures("elsewhere")
class TestPage:
    def test_says_all_that_a_run_left(self) -> None:
        failed = {
            "cell": "c9",
            "method": "slow",
            "d": 128,
            "status": "timeout",
            "reason": "too slow",
        }
        folder = make("time-odd", "one", SUMMARY, timing(), timing(d=128), timing(**failed))
        (folder / "plot.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(20))
        page = page_of(str(folder))
        for told in ("time-odd", "one", "A CPU, 2 threads", "2026-01-02 03:04:05", "seed: 0"):
            assert told in page.text
        assert "2 ok, 1 timeout" in page.text
        assert "too slow" in page.text
        assert "slow at d = 128" in page.text
        assert rows_of(page.tables()["summary"])["d"] == [64, 128, 128]
        assert {"config.yaml", "env.json", "summary.csv", "plot.png"} <= set(page.values("href"))
        assert [a.partition(";")[0] for a in page.values("src")] == ["data:image/png"]

    def test_a_training_that_its_clock_stopped_has_a_result(self) -> None:
        row = {"model": "lstm", "task": "addition", "status": "timeout", "test_loss": 0.25}
        make("train", "one", TRAINED, *(row | {"seed": seed} for seed in range(2)))
        page = page_of("results/train/one")
        assert "2 ok" in page.text
        assert "without" not in page.text
        run(["report"])
        index = Path("results/index.html").read_text(encoding="utf-8")
        assert "2 ok" in index
        assert "lstm: test loss 0.25" in index

    def test_needs_nothing_from_elsewhere(self) -> None:
        page = page_of(str(make("time-odd", "one", SUMMARY, timing(), timing(d=128))))
        assert not {tag for tag, _ in page.elements} & {"link", "iframe", "object", "base"}
        assert all(
            link.startswith(("#", "data:")) or ":" not in link for link in page.values("href")
        )
        assert not page.values("src")
        code = [text for attributes, text in page.scripts if "id" not in attributes]
        policy = page.values("content")[0]
        assert len(code) == 1
        for text, kind in ((code[0], "script"), (page.styles[0], "style")):
            digest = b64encode(sha256(text.encode()).digest()).decode()
            assert f"{kind}-src 'sha256-{digest}'" in policy
        assert "http" not in code[0] + page.styles[0]

    def test_text_from_files_stays_text(self) -> None:
        rows = [timing(method=EVIL, status="failed", reason=EVIL), timing(d=1)]
        folder = make("time-odd", "one", SUMMARY, *rows, config=f"note: |\n  {EVIL}\n")
        (folder / "env.json").write_text(json.dumps({EVIL: EVIL, "cpu": EVIL, "torch": EVIL}))
        (folder / "<script>alert(3)<").write_text("")
        (folder / f"{EVIL.replace('/', '')}.csv").write_text(f"{EVIL},b\n{EVIL},{EVIL}\n1,2\n")
        page = page_of(str(folder))
        assert len([1 for attributes, _ in page.scripts if "id" not in attributes]) == 1
        assert not page.values("onerror")
        assert not [1 for tag, _ in page.elements if tag == "img"]
        assert page.text.count("alert(1)") > 5
        assert rows_of(page.tables()["summary"])["method"] == [EVIL, "fasth"]
        index = page_of()
        assert len(index.scripts) == 1
        assert not index.values("onerror")

    def test_several_in_one_file(self) -> None:
        folders = [str(make("time-odd", name, SUMMARY, timing())) for name in ("one", "two")]
        page = page_of(*folders, "--output", "both.html")
        assert Path("both.html").exists()
        assert not Path(folders[0], "report.html").exists()
        assert "2 runs" in page.text
        assert "results/time-odd/two/summary.csv" in page.values("href")
        ids = page.values("id")
        assert len(ids) == len(set(ids))

    def test_each_in_its_folder(self) -> None:
        folders = [str(make("time-odd", name, SUMMARY, timing())) for name in ("one", "two")]
        answer = run(["report", *folders])
        assert answer.out.split() == [f"{folder}/report.html" for folder in folders]

    def test_repeats_what_the_report_of_the_job_says(self) -> None:
        rows = [timing(kind="householder"), timing(method="cayley", median_s=0.004, kind="cayley")]
        extra = {"q25_s": 0.002, "q75_s": 0.005, "floor_s": 0.001, "vs_best": 2.0, "n": 64}
        folder = make("time-fasth", "one", SUMMARY, *({**row, **extra} for row in rows))
        page = page_of(str(folder))
        assert "time of a step" in page.text
        assert "best other kind: cayley" in page.text
        assert all(source.startswith("data:image/svg+xml;") for source in page.values("src"))
        assert len(page.values("src")) == 3
        assert not list(folder.glob("*.svg"))
        assert not list(folder.glob("*.png"))

    def test_a_large_picture_is_a_png_and_one_that_fails_its_file(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fails() -> Figure:
            raise ValueError("no axis")

        run_ = read_run(make("time-odd", "one", SUMMARY, timing()))
        (run_.folder / "old.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(20))
        figures = {"old": fails, "new": lambda: Figure(figsize=(4, 1), dpi=50)}
        monkeypatch.setattr("svdbench.reporting.html.page.MOST_BYTES", 1)
        found = pictures(Report("time-odd", figures=figures), run_)
        assert [picture.name for picture in found] == ["new", "old"]
        assert all(picture.address.startswith("data:image/png") for picture in found)
        assert found[0].wide
        assert run_.notes == ["old can't be drawn from these files (ValueError: no axis)"]

    @pytest.mark.parametrize(
        ("spoil", "told"),
        [
            (lambda run: (run / "config.yaml").unlink(), "config.yaml is missing"),
            (lambda run: (run / "env.json").unlink(), "env.json is missing"),
            (lambda run: (run / "env.json").write_text("[1"), "env.json is not the JSON"),
            (lambda run: (run / "env.json").write_text("[" * 100_000), "env.json is not the JSON"),
            (lambda run: (run / "summary.csv").write_text(""), "summary.csv has no rows"),
            (
                lambda run: (run / "summary.csv").write_text("a,b\n1,2\n3\n"),
                "left out 1 of 2 lines",
            ),
            (lambda run: (run / "summary.csv").write_text("a\n" + "x" * 200_000), "field larger"),
            (lambda run: (run / "x.csv").mkdir(), "x.csv is no file"),
            (lambda run: (run / "x.csv").symlink_to("gone"), "x.csv is missing"),
        ],
    )
    def test_shows_what_can_be_read(self, spoil: Any, told: str) -> None:
        folder = make("time-odd", "one", SUMMARY, timing())
        spoil(folder)
        assert told in page_of(str(folder)).text

    def test_a_table_that_the_report_of_the_job_cannot_take(self) -> None:
        folder = make("time-fasth", "one", SUMMARY, timing(), config="")
        (folder / "summary.csv").write_text("schema_version,job\n9,time-fasth\n")
        words = "the report of time-fasth can't be made from these files"
        assert words in page_of(str(folder)).text
        assert words in run(["report", str(folder), "--format", "markdown"]).out

    def test_brackets_are_no_markup(self) -> None:
        folder = make("time-fasth", "one", SUMMARY, timing(method="[/bold]", kind="x"))
        assert "[/bold]" in page_of(str(folder)).text

    def test_a_run_that_died_early(self) -> None:
        page = page_of(str(make("time-fasth", "one", SUMMARY)))
        assert "no cell was finished" in page.text

    def test_cells_that_were_not_finished(self) -> None:
        folder = make("time-odd", "one", SUMMARY, timing())
        rows = (folder / "summary.csv").read_text().replace("c0", "c7").replace("fasth", "slow")
        (folder / "samples.csv").write_text(rows + rows.splitlines()[1] + "\n")
        page = page_of(str(folder))
        assert "1 ok, 1 unfinished" in page.text
        assert "the run was stopped before it was finished" in page.text


@pytest.mark.usefixtures("elsewhere")
class TestMistakes:
    def test_no_run(self, tmp_path: Path) -> None:
        (tmp_path / "notes").mkdir()
        (tmp_path / "notes/figures.csv").write_text("figure,kept\na,True\n")
        assert_mistake(run(["report", "notes"]), "notes is not the folder of a run")
        assert_mistake(run(["report", "nowhere"]), "there is no folder nowhere")
        assert_mistake(run(["report"]), "there is no folder results")
        assert_mistake(run(["report", "--results", "notes"]), "notes holds no runs")
        assert_mistake(run(["report", "-o", "x.html"]), "--output is for runs")
        assert_mistake(run(["report", "notes", "--results", "x"]), "--results is for the list")

    def test_nothing_is_written_if_one_is_none(self) -> None:
        folder = make("time-odd", "one", SUMMARY, timing())
        assert run(["report", str(folder), "results"]).code == 2
        assert not (folder / "report.html").exists()
        assert "give those in it: results/time-odd/one" in run(["report", "results"]).err

    def test_nowhere_to_write(self) -> None:
        folder = make("time-odd", "one", SUMMARY, timing())
        answer = run(["report", str(folder), "--output", "no/such/place.html"])
        assert answer.code == 2
        assert answer.err.startswith("svdbench: can't write no/such/place.html: ")


@pytest.mark.usefixtures("elsewhere")
class TestIndex:
    def test_a_line_for_each_run(self) -> None:
        one = make("time-fasth", "one", SUMMARY, timing(), timing(method="slow", median_s=0.006))
        make("train", "two", TRAINED, {"model": "lstm", "task": "copy", "test_loss": 0.25})
        run(["report", str(one)])
        page = page_of()
        assert {"time-fasth/one/report.html", "train/two/"} <= set(page.values("href"))
        assert "d = 64: fasth 2.00 ms, then slow at 3.00×" in page.text
        assert "lstm: test loss 0.25" in page.text
        assert "A CPU, 2 threads" in page.text

    def test_a_sweep_has_the_metrics_of_its_runs(self) -> None:
        rows = timing(), timing(method="slow", median_s=0.006)
        folder = make("time-fasth", "many", SUMMARY, *rows)
        (folder / "sweep.yaml").write_text("seed: 0\n")
        found = report_of(read_run(folder))
        assert "d = 64: fasth 2.00 ms, then slow at 3.00×" in found.headline
        assert [value.value for value in found.metrics[:2]] == [0.002, 0.006]

    def test_the_latest_first(self) -> None:
        for name, day in (("old", "01"), ("new", "03"), ("mid", "02")):
            folder = make("time-odd", name, SUMMARY, timing())
            told = json.dumps(ENVIRONMENT | {"timestamp_utc": f"2026-01-{day}T00:00:00+00:00"})
            (folder / "env.json").write_text(told)
        links = [link for link in page_of().values("href") if link.startswith("time-odd")]
        assert links == ["time-odd/new/", "time-odd/mid/", "time-odd/old/"]

    def test_finds_runs_at_any_depth_but_none_that_are_hidden(self, tmp_path: Path) -> None:
        for place in ("a/b/c", "a/b", ".trash/run"):
            (tmp_path / place).mkdir(parents=True, exist_ok=True)
            (tmp_path / place / "env.json").write_text("{}")
        (tmp_path / "a/loop").symlink_to(tmp_path)
        assert list(find_runs(tmp_path)) == [tmp_path / "a/b", tmp_path / "a/b/c"]


class TestPayload:
    def test_kinds(self) -> None:
        names = ["method", "d", "median_s", "of_floor", "peak_bytes", "vs_best", "error", "cell"]
        rows = [
            ["fasth", "64", "1.5e-05", "0.25", "800", "0.9", "1e-07", "123"],
            ["2e3", "", "inf", "", "90", "1.5", "nan", "456"],
        ]
        table = json.loads(payload(Sheet("summary", names, rows, 2)).json)
        kinds = ["text", "plain", "s", "share", "bytes", "ratio", "number", "text"]
        assert [column["kind"] for column in table["columns"]] == kinds
        assert [values[1] for values in rows_of(table).values()] == [
            *("2e3", None, "inf", None, 90, 1.5, "nan", "456")
        ]

    def test_columns_say_what_they_mean(self) -> None:
        sheet = Sheet("summary", ["m", "k", "x"], [["3", "1", "a"], ["4", "2", "b"]], 2)
        columns = json.loads(payload(sheet, "time-svd").json)["columns"]
        assert [column["means"] for column in columns] == [
            *("rows of the matrix", "rank of the truncated decomposition", "")
        ]

    def test_a_count_is_no_share(self) -> None:
        table = json.loads(payload(Sheet("layers", ["kept"], [["154"], ["85"]], 2)).json)
        assert table["columns"][0]["kind"] == "int"

    def test_what_is_the_same_in_all_rows_is_told_once(self) -> None:
        rows = [["2", "cpu", "", str(i)] for i in range(3)]
        made = payload(Sheet("s", ["schema_version", "device", "reason", "d"], rows, 5))
        assert (made.same, made.empty, made.rows, made.total) == (
            [("device", "cpu")],
            ["reason"],
            3,
            5,
        )
        assert list(rows_of(json.loads(made.json))) == ["d"]

    @settings(deadline=None)
    @given(
        st.lists(st.one_of(st.text(), st.floats().map(repr), st.integers().map(str)), min_size=1)
    )
    def test_every_value_is_there(self, values: list[str]) -> None:
        made = payload(Sheet("s", ["x", "i"], [[v, str(i)] for i, v in enumerate(values)], 1))
        assert "<" not in made.json
        found = rows_of(json.loads(made.json)).get("x")
        if found is None:
            assert len(set(values)) == 1
            return
        for text, value in zip(values, found, strict=True):
            if isinstance(value, int | float):
                assert value == pytest.approx(float(text), rel=1e-6)
            elif value is None:
                assert text == ""
            else:
                assert value == text or float(value) in (float(text),) or value == "nan"


class TestReference:
    """The runs that are in the repository, of several ages and schemas."""

    def test_endings(self) -> None:
        found = read_run(REFERENCE / "time-fasth")
        assert progress(found).startswith("74 ok, 1 skipped")
        (ending,) = endings(found)
        assert (ending.status, ending.which) == ("skipped", "parallel at d = 1024; n = 1024")
        assert "max_bytes" in ending.reason

    @pytest.mark.parametrize(
        ("folder", "told"),
        [
            ("time-fasth", "d = 1024: fasth 6.89 ms, then cayley at 3.18×"),
            ("tune", "d = 1024, m = 128: block size 64 15.4 ms, then block size 128 at 1.01×"),
            ("bench", "12 of 23 figures kept"),
            (
                "bench-reveal/rank-reveal/frontier",
                "frontier: weights kept 9.07%, test loss against dense +0.00786",
            ),
            ("bench-rnn/time-rnn/loop", "n = 512: spectral_16 314 ms, then spectral_n at 1.11×"),
            (
                "bench-lowrank/accelerate/twice",
                "DNN: test accuracy 97.97%; "
                "SVD-DNN α 0.25, φ 5%: test accuracy 97.92%, training speed 2.01×",
            ),
        ],
    )
    def test_headlines(self, folder: str, told: str) -> None:
        assert report_of(read_run(REFERENCE / folder)).headline == told

    @pytest.mark.parametrize(
        "folder",
        [
            "bench-lowrank/accelerate/text-threads-2",
            "bench-lowrank/time-svd/drivers",
        ],
    )
    def test_the_command_composes_the_configuration(self, folder: str) -> None:
        found = read_run(REFERENCE / folder)
        assert_repeats(found.job, found.config or "")

    def test_a_page_of_an_old_run(self, tmp_path: Path) -> None:
        shutil.copytree(REFERENCE / "time-fasth", tmp_path / "run")
        config = tmp_path / "run" / "config.yaml"
        lines = config.read_text().splitlines()
        config.write_text("\n".join(line for line in lines if "l2:" not in line) + "\n")
        page = page_of(str(tmp_path / "run"))
        assert len(rows_of(page.tables()["samples"])["step_s"]) == 10366
        assert "keys added since then have their defaults: measure.l2" in page.text


def assert_repeats(job: str, config: str) -> None:
    """The command's own configuration is that of the run, but for what is new, and its place."""
    found = repeat(job, config, {})
    assert found.command is not None, found.notes
    answer = run([*shlex.split(found.command)[1:], "--show-config"])
    assert answer.code == 0, answer.err
    trees = (list(yaml.safe_load_all(text)) for text in (config, answer.out))
    for ours, theirs in zip(*trees, strict=True):
        for key, value in ours.items():
            assert key in ("name", "results") or theirs[key] == without_classes(value)


def without_classes(tree: Any) -> Any:
    """A part of a configuration of version 0.1, which named the class of each member."""
    if not isinstance(tree, dict):
        return tree
    return {key: without_classes(value) for key, value in tree.items() if key != "_target_"}


@pytest.mark.parametrize(
    "typed",
    [
        ["train", "exprnn", "--task", "smnist", "optimizer=rmsprop", "trainer.threads=1"],
        ["gradients", "rnn,lstm", "--steps", "7"],
        ["compress", "net:build", "--data", "a b:c", "--weights", "it's.pt"],
    ],
)
def test_the_command_of_what_was_typed(typed: list[str]) -> None:
    config = run([*typed, "--show-config"]).out
    own = "model.build" in config or "build:" in config
    job = "compress-model" if own and typed[0] == "compress" else typed[0]
    assert_repeats(job, config)


@pytest.mark.parametrize(
    ("job", "config", "told"),
    [
        ("train", "seed: 0", "config.yaml has no model_name"),
        ("train", "model_name: ../../x\ntask_name: copy", "'../../x' names no model"),
        ("train", "model_name: nobody\ntask_name: copy", "nobody"),
        ("time-fasth", "- 1", "config.yaml is not a configuration"),
        ("time-fasth", "a: ]", "config.yaml is not YAML"),
        ("time-fasth", "a: &x 1\nb: *x", "config.yaml has aliases"),
        ("time-fasth", None, "there is no config.yaml"),
        ("dance", "seed: 0", "dance is not an svdbench command"),
    ],
)
def test_why_there_is_no_command(job: str, config: str | None, told: str) -> None:
    found = repeat(job, config, {})
    assert found.command is None
    assert told in found.notes[0]
