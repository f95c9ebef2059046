"""``svdbench compress MODULE:BUILD``: a model of the user's own, from its module to its files."""

import importlib
import itertools
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from command import assert_mistake, run, table
from safetensors.torch import save_file

from svdbench.errors import Failed, UserError
from svdbench.lowrank import LowRankLinear, compress, load
from svdbench.user_models.model import user_model

pytestmark = pytest.mark.usefixtures("elsewhere", "one_thread")

SOURCE = """
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
X = torch.randn(400, 12)
y = (X[:, :2].sum(1) > 0).long() + (X[:, 2] > 0).long()


def build():
    return nn.Sequential(nn.Linear(12, 24), nn.ReLU(), nn.Linear(24, 16), nn.ReLU(),
                         nn.Linear(16, 3))


def wide():
    return nn.Sequential(nn.Linear(12, 30), nn.ReLU(), nn.Linear(30, 3))


def whole():
    return X, y


def loader():
    return DataLoader(TensorDataset(X, y), batch_size=50)


def parts():
    return {"calibration": (X[:200], y[:200]), "validation": [(X[200:300], y[200:300])],
            "test": (X[300:], y[300:])}


def typo():
    return {"calibrate": (X, y)}


def dirty():
    return torch.full((40, 12), float("nan")), y[:40]


def other():
    return X[:, :5], y


def short():
    return X[:2], y[:2]


def loss(output, target):
    return nn.functional.cross_entropy(output, target)


def odd_loss(output, target):
    return nn.functional.mse_loss(output, target)


def one_argument(output):
    return output.mean()


class ModuleLoss(nn.Module):
    def forward(self, output):
        return output.mean()


module_loss = ModuleLoss()


class TwoInputs(nn.Linear):
    def __init__(self):
        super().__init__(12, 3)

    def forward(self, x, mask):
        return super().forward(x)


def by_name():
    return {"ids": X}, y


def nothing():
    return None


def fails():
    return {}["weights"]


text = "not a function"
"""


@pytest.fixture(autouse=True)
def package(elsewhere: None) -> Iterator[None]:
    """``my_net`` in the current folder, with weights of some training; forgotten afterwards."""
    Path("my_net.py").write_text(SOURCE)
    Path("broken.py").write_text("import torch\n1 / 0\n")
    Path("needy.py").write_text("import no_such_package\n")
    path = list(sys.path)
    sys.path.insert(0, str(Path.cwd()))
    importlib.invalidate_caches()
    my_net = importlib.import_module("my_net")
    model = my_net.build()
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(25):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(my_net.X), my_net.y).backward()
        optimizer.step()
    save_file(model.state_dict(), "model.safetensors")
    torch.save({"state_dict": model.state_dict()}, "model.pt")
    torch.save(model, "pickle.pt")
    yield
    sys.path[:] = path
    for name in ("my_net", "broken", "needy"):
        sys.modules.pop(name, None)


MINE = ["compress", "my_net:build", "--weights", "model.safetensors", "--data", "my_net:whole"]
QUICK = [*MINE, "--name", "one", "timing_s=0.05"]
FOLDER = Path("results/compress-model/one")


def test_writes_what_it_promises() -> None:
    code, out, _ = run([*QUICK, "--max-loss-increase", "0.05"])
    assert code == 0
    names = (
        "config.yaml",
        "env.json",
        "progress.jsonl",
        "summary.csv",
        "layers.csv",
        "frontier.csv",
    )
    names += ("frontier.png", "model.safetensors", "model.json")
    assert {path.name for path in FOLDER.iterdir()} == set(names)
    (row,), layers = table(FOLDER / "summary.csv"), table(FOLDER / "layers.csv")
    assert (row["job"], row["model"], row["status"]) == ("compress-model", "my_net:build", "ok")
    assert int(float(row["dense_n_params"])) == 12 * 24 + 24 + 24 * 16 + 16 + 16 * 3 + 3
    assert int(float(row["dense_macs"])) == 12 * 24 + 24 * 16 + 16 * 3
    assert float(row["n_params"]) < float(row["dense_n_params"])
    assert float(row["searched"]) <= 0.05
    assert float(row["latency_s"]) > 0
    assert (row["searched_examples"], row["examples"]) == ("100", "100")
    assert [layer["layer"] for layer in layers] == ["0.weight", "2.weight", "4.weight"]
    assert int(row["weights"]) == sum(int(layer["numbers"]) for layer in layers)
    for layer in layers:
        if layer["form"] == "factors":
            rank = int(layer["rank"])
            sides = int(layer["rows"]) + int(layer["columns"])
            assert float(layer["macs"]) == int(layer["numbers"]) == rank * sides
            assert 0 < float(layer["error_bound"]) < 1
            assert 0 < float(layer["error"]) < 2 * float(layer["error_bound"])
    assert "200 + 100 + 100 examples to calibrate, to search, held out" in out
    assert "held out: the loss changed by" in out
    assert "calibration ≤" in out
    assert "bound on the calibration examples, from the spectrum; held out: measured" in out
    assert "which the bound does not cover" in out
    assert out.splitlines()[-1].startswith("load it: import my_net, svdbench.lowrank; ")


def test_the_last_line_restores_the_model() -> None:
    _, out, _ = run([*QUICK, "--params", "0.4"])
    line = out.splitlines()[-1].removeprefix("load it: ")
    scope: dict[str, object] = {}
    exec(line, scope)
    model = scope["model"]
    assert isinstance(model, torch.nn.Sequential)
    assert any(isinstance(module, LowRankLinear) for module in model)
    import my_net  # type: ignore[import-not-found]

    dense = my_net.build()
    dense.load_state_dict(torch.load("model.pt", weights_only=True)["state_dict"])
    same = compress(dense, (my_net.X, my_net.y), params=0.4, timing_s=0).model
    torch.testing.assert_close(model(my_net.X), same(my_net.X))


@pytest.mark.parametrize(
    "more",
    [
        ["--macs", "0.5", "--dtype", "bf16", "--kind", "whitened"],
        ["--params", "0.5", "--multiple-of", "2", "--finetune-epochs", "2", "--lr", "1e-3"],
        ["--latency", "1", "--keep-if", "latency", "--weights", "model.pt"],
        ["--data", "my_net:loader", "--loss", "my_net:loss", "--calibration", "50"],
        ["--data", "my_net:parts", "layers=[0.weight]", "timing_s=0"],
    ],
)
def test_takes_every_option(more: list[str]) -> None:
    code, out, err = run([*QUICK, *more])
    assert (code, err) == (0, "")
    import my_net

    (row,), layers = table(FOLDER / "summary.csv"), table(FOLDER / "layers.csv")
    assert load(my_net.build(), FOLDER / "model.safetensors") is not None
    ranks = [int(layer["rank"]) for layer in layers if layer["rank"]]
    match more[1]:
        case "0.5" if "bf16" in more:
            assert float(row["bytes"]) == 2 * float(row["n_params"])
            kept, whole = (sum(float(x[n]) for x in layers) for n in ("macs", "dense_macs"))
            assert kept <= 0.5 * whole
        case "0.5":
            assert ranks
            assert not any(rank % 2 for rank in ranks)
            assert "fine-tuned for 2 epochs" in out
        case "1":
            for layer in layers:
                if layer["rank"]:
                    assert float(layer["latency_s"]) < float(layer["dense_latency_s"])
        case "my_net:loader":
            assert "50 + 175 + 175 examples" in out
        case _:
            assert [layer["status"] for layer in layers] == ["ok", "skipped", "skipped"]
            assert "2.weight left as it is: not asked for" in out
            assert row["latency_s"] == ""


def test_says_when_labels_look_constant_and_rows_are_few() -> None:
    Path("few.py").write_text(
        "import torch\ndef data():\n    return torch.randn(30, 12), torch.zeros(30).long()\n"
    )
    code, out, err = run([*QUICK, "--data", "few:data", "--calibration", "8"])
    sys.modules.pop("few")
    assert (code, err) == (0, "")
    assert "warning: all 8 labels are 0" in out
    assert "warning: 8 calibration rows are fewer than the 12 inputs of 0.weight" in out


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"build": "my_nt:build"}, "there is no module 'my_nt'"),
        ({"build": "my_net:biuld"}, "did you mean 'build'?"),
        ({"build": "my_net:"}, "write MODULE:FUNCTION"),
        ({"build": "my_net:text"}, "is a str: name a function"),
        ({"build": "my_net:nothing"}, "returned None: it must return the model"),
        ({"build": "my_net:fails"}, "KeyError: 'weights' (my_net.py, line "),
        (
            {"build": "my_net:loss"},
            "my_net:loss can't be called without arguments: name a",
        ),
        ({"build": "torch.nn:Linear"}, "can't be called without arguments"),
        ({"build": "math:log"}, "can't be called without arguments"),
        ({"data": "my_net:loss"}, "takes none and returns the examples"),
        ({"build": "broken:build"}, "ZeroDivisionError: division by zero (broken.py, line 2)"),
        ({"build": "needy:build"}, "needs no_such_package: install it"),
        ({"build": "my_net:wide"}, "0.weight is [24, 12] in the file and [30, 12]"),
        ({"weights": "none.pt"}, "No such file"),
        ({"weights": "my_net.py"}, "is not a weights file"),
        ({"weights": "pickle.pt"}, "needs torch.nn.modules.container.Sequential besides tensors"),
        ({"data": "my_net:nothing"}, "the data is None: give (inputs, targets)"),
        ({"data": "my_net:typo"}, "did you mean 'calibration'?"),
        ({"data": "my_net:short"}, "there are 2 examples"),
    ],
)
def test_what_the_user_brings_must_fit(given: dict[str, str], says: str) -> None:
    brought = {"build": "my_net:build", "weights": "model.safetensors", "data": "my_net:whole"}
    with pytest.raises(UserError) as caught:
        user_model(**(brought | given))
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["compress", "my_net:build"], "no examples are given"),
        (["compress", "net.pt", *MINE[2:]], "net.pt is a file of weights: name the function"),
        (["compress", "my_nt:build", *MINE[4:]], "there is no module 'my_nt'"),
        ([*MINE, "--weights", "pickle.pt"], "loading it could run arbitrary code"),
        ([*MINE, "--ranks", "3"], "--ranks is for networks that are trained"),
        (["compress", "digits", "--params", "0.5"], "--params is for a model of your own"),
        ([*MINE, "--params", "1.5"], "give a fraction"),
        ([*MINE, "--params", "0.5", "--macs", "0.5"], "give only one of them"),
        ([*MINE, "--kind", "other"], "no kind of frontier is called 'other'"),
        ([*MINE, "--keep-if", "smaller"], "no keep_if is called 'smaller'"),
        ([*MINE, "folding=other"], "no folding is called 'other'"),
        ([*MINE, "--dtype", "bf16", "--finetune-epochs", "1"], "use float32"),
    ],
)
def test_a_mistake_is_one_line(arguments: list[str], says: str) -> None:
    assert_mistake(run(arguments), says)


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--data", "my_net:dirty"], "NaN"),
        (["--params", "0.001"], "the smallest factors take"),
        (["layers=[8.weight]"], "no weight is called '8.weight'"),
        (
            ["--loss", "my_net:one_argument"],
            "can't be called with outputs and targets: name a",
        ),
        (["--loss", "json:loads"], "json:loads can't be called with outputs and targets"),
        (["--loss", "my_net:module_loss"], "ModuleLoss.forward() is given more arguments than it"),
        (["--loss", "my_net:ModuleLoss"], "my_net:ModuleLoss: loss is the class ModuleLoss"),
        (["--data", "my_net:by_name"], "Sequential.forward() has no parameter 'ids', but is given"),
        (["--data", "my_net:other"], "my_net:build: mat1 and mat2 shapes"),
    ],
)
def test_what_goes_wrong_later_is_one_line_too(more: list[str], says: str) -> None:
    code, _, err = run([*QUICK, *more])
    assert code == 2
    assert says in err
    assert err.count("\n") == 1
    assert not FOLDER.exists()


def test_few_examples_have_no_standard_error() -> None:
    Path("few.py").write_text("from my_net import X, y\ndef data():\n    return X[:4], y[:4]\n")
    code, out, err = run([*QUICK, "--data", "few:data", "timing_s=0", "--params", "0.5"])
    sys.modules.pop("few")
    assert (code, err) == (0, "")
    assert "on 1 example not used for choosing" in out


RAISES = """
import os
import sys
import torch
from torch import nn
from my_net import X, y, build as plain


class Mute(Exception):
    def __str__(self):
        raise RuntimeError("no words")


class Foreign(BaseException):
    pass


def raised():
    kind = os.environ["RAISES"]
    if kind == "exit":
        sys.exit(0)
    if kind == "out":
        sys.stdout.close()
    elif kind == "cd":
        os.makedirs("deeper", exist_ok=True)
        os.chdir("deeper")
    else:
        raise {"SystemExit": SystemExit("over"), "KeyboardInterrupt": KeyboardInterrupt(),
               "Mute": Mute(), "Foreign": Foreign("odd"), "GeneratorExit": GeneratorExit(),
               "StopIteration": StopIteration(3), "ValueError": ValueError("two\\nlines"),
               "AttributeError": AttributeError("nope")}[kind] from KeyError("before")


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = plain()

    def forward(self, x):
        raised()
        return self.inner(x)


class Copied(Net):
    def forward(self, x):
        return self.inner(x)

    def __deepcopy__(self, memo):
        raised()


def build():
    raised()
    return plain()


def lazily():
    for start in range(0, 400, 50):
        if start > 200:
            raised()
        yield X[start:start + 50], y[start:start + 50]


class Late:
    def __iter__(self):
        yield from lazily()


def late():
    return {"calibration": (X, y), "validation": Late(), "test": (X, y)}


def loss(output, target):
    raised()
    return nn.functional.cross_entropy(output, target)


def __getattr__(name):
    if name == "attribute":
        raised()
    raise AttributeError(name)
"""
WHERE = {
    "build": ["raises:build", "--data", "my_net:whole"],
    "forward": ["raises:Net", "--data", "my_net:whole"],
    "deepcopy": ["raises:Copied", "--data", "my_net:whole"],
    "loader": ["my_net:build", "--data", "raises:lazily"],
    "late loader": ["my_net:build", "--data", "raises:late"],
    "loss": ["my_net:build", "--data", "my_net:whole", "--loss", "raises:loss"],
    "attribute": ["my_net:build", "--data", "raises:attribute"],
}
QUICKLY = ["--name", "one", "timing_s=0", "--params", "0.5"]


@pytest.fixture
def raises(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """``raises``, a module whose functions raise what they are told to."""
    Path("raises.py").write_text(RAISES)
    importlib.invalidate_caches()
    yield lambda kind: monkeypatch.setenv("RAISES", kind)
    sys.modules.pop("raises", None)


@pytest.mark.parametrize("where", WHERE)
@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("exit", "SystemExit: 0 (raises.py, line 21)"),
        ("KeyboardInterrupt", "KeyboardInterrupt (raises.py, line 28)"),
        ("Mute", "Mute (raises.py, line 28)"),
        ("Foreign", "Foreign: odd (raises.py, line 28)"),
        ("GeneratorExit", "GeneratorExit (raises.py, line 28)"),
        ("ValueError", "ValueError: two (raises.py, line 28)"),
    ],
)
def test_whatever_the_users_code_raises_is_one_line(
    kind: str, says: str, where: str, raises: Callable[[str], None]
) -> None:
    raises(kind)
    code, _, err = run(["compress", *WHERE[where], *QUICKLY])
    assert (code, err.count("\n")) == (1, 1)
    assert err.startswith("svdbench: ")
    assert f" failed: {says}" in err
    assert not FOLDER.exists()


@pytest.mark.parametrize("where", ["build", "forward", "loader"])
def test_rank_reveal_says_it_in_one_line_too(where: str, raises: Callable[[str], None]) -> None:
    raises("exit")
    code, _, err = run(["rank-reveal", *WHERE[where], "--name", "one"])
    assert (code, err.count("\n")) == (1, 1)
    assert "failed: SystemExit: 0 (raises.py, line 21)" in err


@pytest.mark.parametrize("where", [name for name in WHERE if name not in ("attribute", "deepcopy")])
def test_a_change_of_the_directory_moves_nothing(where: str, raises: Callable[[str], None]) -> None:
    raises("cd")
    code, _, err = run(["compress", *WHERE[where], *QUICKLY])
    assert (code, err) == (0, "")
    assert (FOLDER / "model.safetensors").exists()
    assert not list(Path("deeper").glob("**/results"))


def test_relative_paths_are_those_of_the_command(raises: Callable[[str], None]) -> None:
    raises("cd")
    more = ["--weights", "model.safetensors", *QUICKLY]
    code, _, err = run(["compress", "raises:build", "--data", "my_net:whole", *more])
    assert (code, err) == (0, "")


def test_a_closed_stream_is_opened_and_told(
    raises: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    raises("out")
    with open("out.txt", "w") as out:
        monkeypatch.setattr(sys, "stdout", out)
        with pytest.raises(Failed, match="raises:build closed the standard output"):
            user_model("raises:build")
        print("still open")
    assert Path("out.txt").read_text() == "still open\n"


def test_an_error_in_a_loss_is_the_users() -> None:
    code, _, err = run([*QUICK, "--loss", "my_net:odd_loss"])
    assert (code, err.count("\n")) == (1, 1)
    assert "my_net:build failed: RuntimeError: The size of tensor a" in err
    assert "(my_net.py, line " in err


def test_a_loss_that_cannot_be_mapped_is_taken_example_by_example() -> None:
    Path("branching.py").write_text(
        "from torch import nn\nmodule = nn.CrossEntropyLoss()\ncls = nn.CrossEntropyLoss\n"
        "def loss(output, target):\n    value = module(output, target)\n"
        "    return value if value > 0 else -value\n"
    )
    rows = []
    for loss in ("branching:loss", "branching:module"):
        code, _, err = run([*QUICK, "--loss", loss, "timing_s=0", "--name", loss[-4:]])
        assert (code, err) == (0, "")
        rows += table(FOLDER.with_name(loss[-4:]) / "summary.csv")
    assert rows[0]["dense_loss"] == rows[1]["dense_loss"]
    code, _, err = run([*QUICK, "--loss", "branching:cls", "timing_s=0"])
    assert (code, err.count("\n")) == (2, 1)
    assert "loss is the class CrossEntropyLoss: give an instance" in err
    code, _, err = run([*QUICK, "--loss", "branching:module", "--params", "0.5", "timing_s=0"])
    assert (code, err) == (0, "")
    sys.modules.pop("branching")


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("command", ["compress", "rank-reveal"])
def test_an_error_in_a_data_set_names_its_line(command: str, workers: int) -> None:
    Path("wrong_set.py").write_text(
        "from torch.utils.data import DataLoader, Dataset\n"
        "class Wrong(Dataset):\n"
        "    def __len__(self):\n        return 100\n"
        "    def __getitem__(self, i):\n        return 1 / 0\n"
        f"def loader():\n    return DataLoader(Wrong(), batch_size=5, num_workers={workers})\n"
    )
    code, _, err = run([command, "my_net:build", "--data", "wrong_set:loader", "--name", "one"])
    sys.modules.pop("wrong_set", None)
    assert (code, err.count("\n")) == (1, 1)
    assert "my_net:build failed: ZeroDivisionError: division by zero (wrong_set.py, line 6)" in err


ENDLESS = """
import itertools
import torch
from torch.utils.data import DataLoader, IterableDataset
from my_net import X, y

class Endless(IterableDataset):
    def __iter__(self):
        for i in itertools.count():
            yield X[i % 400], y[i % 400]

def endless():
    for i in itertools.count():
        yield X[:10], y[:10]

def loader():
    return DataLoader(Endless(), batch_size=10)

def parts():
    return {"calibration": (X, y), "validation": Endless(), "test": loader()}

def parts_of_batches():
    return {"calibration": (X, y), "validation": loader(), "test": endless()}
"""


@pytest.mark.parametrize("loader", ["endless", "loader", "parts_of_batches"])
def test_a_loader_without_an_end_may_be_limited(loader: str) -> None:
    Path("endless.py").write_text(ENDLESS)
    code, _, err = run([*QUICK, "--data", f"endless:{loader}", "--max-examples", "95", *QUICKLY])
    sys.modules.pop("endless", None)
    assert (code, err) == (0, "")
    (row,) = table(FOLDER / "summary.csv")
    assert row["examples"] == {"parts_of_batches": "100"}.get(loader, "20")


def test_what_is_waited_for_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    """Every batch takes a second, and somebody presses ^C in the hundredth."""
    Path("endless.py").write_text(ENDLESS)
    seconds = itertools.count()

    def clock() -> float:
        now = float(next(seconds))
        if now == 100:
            signal.raise_signal(signal.SIGINT)
        return now

    with pytest.raises(KeyboardInterrupt):
        user_model("my_net:build", data="endless:loader", clock=clock)
    sys.modules.pop("endless", None)
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        f"svdbench: reading endless:loader: {10 * at} examples in {at} batches so far; "
        "model.max_examples=N takes only the first N"
        for at in (10, 20, 40, 80)
    ]


def test_a_loader_that_ends_is_waited_for_once(capsys: pytest.CaptureFixture[str]) -> None:
    Path("ending.py").write_text(
        "from my_net import X, y\n"
        "class Batches:\n    def __iter__(self):\n        yield from [(X[:20], y[:20])] * 11\n"
        "def parts():\n"
        "    return {'calibration': (X, y), 'validation': Batches(), 'test': (X, y)}\n"
    )
    seconds = itertools.count()
    found = user_model("my_net:build", data="ending:parts", clock=lambda: float(next(seconds)))
    sys.modules.pop("ending", None)
    assert found.splits is not None
    for _ in range(3):
        assert sum(len(y) for _, y in found.splits.search) == 220
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    ("dtype", "says"),
    [
        (torch.int8, "2.weight is int8, where the model has float32: a quantised weight needs"),
        (torch.uint8, "2.weight is uint8"),
        (torch.int64, "2.weight is int64"),
        (torch.bool, "2.weight is bool, where the model has float32: save it in the model's"),
        (torch.complex64, "2.weight is complex64"),
        (
            torch.float8_e4m3fn,
            "2.weight is float8_e4m3fn, where the model has float32: a quantised",
        ),
    ],
)
@pytest.mark.parametrize("name", ["other.safetensors", "other.pt"])
@pytest.mark.parametrize("command", ["compress", "rank-reveal"])
def test_weights_of_another_kind_are_refused_by_name(
    command: str, name: str, dtype: torch.dtype, says: str
) -> None:
    state = torch.load("model.pt", weights_only=True)["state_dict"]
    state["2.weight"] = state["2.weight"].to(dtype)
    save_file(state, name) if name.endswith("safetensors") else torch.save(state, name)
    given = [command, "my_net:build", "--data", "my_net:whole", "--weights", name]
    assert_mistake(run(given), f"{name}: {says}")


def test_floating_point_weights_are_converted_and_that_is_said() -> None:
    state = torch.load("model.pt", weights_only=True)["state_dict"]
    save_file({name: value.bfloat16() for name, value in state.items()}, "half.safetensors")
    found = user_model("my_net:build", "half.safetensors")
    assert found.notes == ("half.safetensors: 6 tensors converted from bfloat16 to float32",)
    code, out, err = run([*QUICK, *QUICKLY, "--weights", "half.safetensors"])
    assert (code, err) == (0, "")
    assert found.notes[0] in out
    assert user_model("my_net:build", "model.safetensors").notes == ()
    notes = user_model("my_net:build", "model.safetensors", dtype=torch.bfloat16).notes
    assert notes == ("my_net:build: 6 tensors converted from float32 to bfloat16",)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("model[0].to(torch.complex64)", "0.weight is torch.complex64"),
        ("model[2].to(torch.float8_e4m3fn)", "2.weight is torch.float8_e4m3fn"),
        ("model[2].to('meta')", "2.weight is on the meta device"),
        ("model.insert(0, nn.LazyLinear(12))", "0.weight is not initialised"),
        (
            "model[4].weight.data[1, 2] = float('inf')",
            "4.weight has 1 NaN or infinite among its 48",
        ),
    ],
)
def test_a_model_of_another_kind_is_refused_by_name(change: str, says: str) -> None:
    Path("changed.py").write_text(
        "import torch\nfrom torch import nn\nimport my_net\n"
        f"def build():\n    model = my_net.build()\n    {change}\n    return model\n"
    )
    answer = run(["compress", "changed:build", "--data", "my_net:whole"])
    sys.modules.pop("changed")
    assert_mistake(answer, f"changed:build: {says}")


def test_a_class_that_says_it_is_a_module_is_none() -> None:
    Path("lying.py").write_text(
        "from torch import nn\nclass Lying:\n    __class__ = nn.Module\n"
        "class Odd(nn.Linear):\n    def __init__(self):\n        super().__init__(12, 3)\n"
        "    def eval(self):\n        nn.Module.eval(self)\n"
    )
    with pytest.raises(
        UserError,
        match=r"returned a Lying: it must return the model, a "
        r"torch.nn.Module",
    ):
        user_model("lying:Lying")
    assert not user_model("lying:Odd").model.training
    sys.modules.pop("lying")


def test_a_state_dict_has_names_for_keys() -> None:
    torch.save({1: torch.ones(2), "0.weight": torch.ones(2)}, "keys.pt")
    with pytest.raises(
        UserError,
        match=r"keys.pt has the key 1, but the keys of a state_dict are "
        r"names",
    ):
        user_model("my_net:build", "keys.pt")


UNCOUNTED = """
import torch
from my_net import X, y

def ignored():
    return X, torch.full_like(y, -100)

def uncalibrated():
    return {"calibration": (X, torch.full_like(y, -100)), "validation": (X, y), "test": (X, y)}

def partly():
    some = y.clone()
    some[:40] = -100
    return {"calibration": (X, y), "validation": (X, some), "test": (X, y)}

def at_last():
    ignored = torch.full_like(y[:9], -100)
    return {"calibration": (X, y), "validation": (X, y), "test": (X[:9], ignored)}

def nan(output, target):
    return output.mean() * float("nan")

def detached(output, target):
    return torch.nn.functional.cross_entropy(output.detach(), target)
"""


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--data", "uncounted:uncalibrated"], "on 1 of 1 calibration batches (400 examples)"),
        (["--data", "uncounted:ignored"], "on 100 of 100 search examples"),
        (["--data", "uncounted:ignored", "--params", "0.5"], "on 100 of 100 search examples"),
        (["--data", "uncounted:ignored", "--kind", "plain"], "on 100 of 100 search examples"),
        (
            ["--data", "uncounted:ignored", "--kind", "plain", "--params", "0.5"],
            "100 of 100 search",
        ),
        (
            ["--data", "uncounted:partly"],
            "on 40 of 400 search examples, the first of them example 0",
        ),
        (["--data", "uncounted:at_last"], "on 9 of 9 held-out examples"),
        (["--loss", "uncounted:nan"], "on 100 of 100 search examples"),
        (["--loss", "uncounted:nan", "--kind", "whitened", "--params", "0.5"], "100 of 100 search"),
        (["--loss", "uncounted:detached"], "the loss has no gradient in the model"),
    ],
)
def test_a_loss_that_counts_nothing_is_refused(more: list[str], says: str) -> None:
    Path("uncounted.py").write_text(UNCOUNTED)
    code, _, err = run([*QUICK, "timing_s=0", *more])
    sys.modules.pop("uncounted", None)
    assert code == 2
    assert says in err
    assert err.count("\n") == 1
    assert not FOLDER.exists()


def test_an_interruption_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*arguments: object, **options: object) -> None:
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr("svdbench.jobs.compress_model.run.compress", interrupted)
    code, _, err = run(QUICK)
    assert (code, err) == (130, "svdbench: interrupted; nothing was finished\n")
    assert not FOLDER.exists()


def test_weights_without_the_names_of_tied_ones() -> None:
    """As transformers save them: a tensor that has two names is in the file once."""
    Path("tied.py").write_text(
        "from torch import nn\n"
        "def build():\n"
        "    model = nn.ModuleDict({'a': nn.Embedding(9, 4), 'b': nn.Linear(4, 9, bias=False)})\n"
        "    model['b'].weight = model['a'].weight\n"
        "    return model\n"
    )
    weight = torch.randn(9, 4)
    save_file({"b.weight": weight}, "tied.safetensors")
    model = user_model("tied:build", "tied.safetensors").model
    sys.modules.pop("tied")
    assert torch.equal(model.get_parameter("a.weight"), weight)
    save_file({"c.weight": weight}, "other.safetensors")
    with pytest.raises(UserError, match=r"lacks a.weight, b.weight and has the unknown c.weight"):
        user_model("tied:build", "other.safetensors")
    sys.modules.pop("tied")
    with open("model.safetensors", "r+b") as file:
        file.truncate(200)
    with pytest.raises(UserError, match="not a complete safetensors file"):
        user_model("my_net:build", "model.safetensors")


FORMS = """
import torch
from torch import nn
from my_net import X, y, build as plain


class Wrapped(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = plain()

    def forward(self, ids, mask=None, labels=None):
        logits = self.inner(ids)
        loss = None if labels is None else nn.functional.cross_entropy(logits, labels)
        return {"loss": loss, "logits": logits}


def inputs():
    return [{"ids": x, "mask": None} for x in X.split(50)]


def labelled():
    return {"ids": X, "labels": y}


def contrastive(output, target):
    z = nn.functional.normalize(output["logits"], dim=-1)
    return nn.functional.cross_entropy(z @ z.mT, torch.arange(len(z)))


class Table(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.table, self.out = nn.Embedding(40, 12), nn.Linear(24, 20)

    def forward(self, tokens):
        return self.out(self.table(tokens).flatten(1))


def tokens():
    torch.manual_seed(0)
    return torch.randint(40, (200, 2))
"""


@pytest.mark.parametrize(
    ("more", "row", "says"),
    [
        (
            ["--data", "forms:inputs"],
            {"loss": "distillation (kl)", "unit": "example", "curvature": "ggn"},
            "loss: distillation (kl); curvature: generalised Gauss-Newton",
        ),
        (["--data", "forms:labelled"], {"loss": "cross entropy"}, "loss: cross entropy; curvature"),
        (
            ["--data", "forms:labelled", "--distill", "mse"],
            {"loss": "distillation (mse)", "dense_loss": "0.0"},
            "loss: distillation (mse)",
        ),
        (
            ["--data", "forms:inputs", "--loss", "forms:contrastive"],
            {"loss": "contrastive", "unit": "batch", "examples": "2"},
            "on 2 batches not used for choosing",
        ),
        (
            ["--data", "forms:inputs", "--distill", "kl", "--temperature", "3"],
            {"loss": "distillation (kl)"},
            "% of the parameters of the weights that can be factored, ",
        ),
    ],
)
def test_forms_of_real_models(more: list[str], row: dict[str, str], says: str) -> None:
    Path("forms.py").write_text(FORMS)
    code, out, err = run(["compress", "forms:Wrapped", *QUICKLY, *more])
    sys.modules.pop("forms", None)
    assert (code, err) == (0, "")
    (found,) = table(FOLDER / "summary.csv")
    assert {key: found[key] for key in row} == row
    assert says in out


def test_embeddings_in_or_out_by_one_switch() -> None:
    Path("forms.py").write_text(FORMS)
    for flag, layers in ([], 2), (["--no-embeddings"], 1), (["embeddings=false"], 1):
        name = "-".join(["run", *flag]).replace("=", "-")
        more = ["--data", "forms:tokens", "--params", "0.6", *flag, "timing_s=0", "--name", name]
        code, out, err = run(["compress", "forms:Table", *more])
        assert (code, err) == (0, "")
        folder = FOLDER.with_name(name)
        (row,) = table(folder / "summary.csv")
        taken = [each for each in table(folder / "layers.csv") if each["status"] == "ok"]
        assert len(taken) == layers
        assert row["embeddings"] == str(layers == 2)
        assert ("table.weight left as it is: an embedding" in out) == (layers == 1)
    sys.modules.pop("forms", None)


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--distill", "cosinus"], "no distillation is called 'cosinus'"),
        (["--distill", "kl", "--loss", "my_net:loss"], "loss and distill are both given"),
        (["--distill", "mse", "--temperature", "2"], "temperature is only for --distill kl"),
        (["--temperature", "0"], "--temperature is 0"),
    ],
)
def test_choices_of_the_loss_that_contradict(more: list[str], says: str) -> None:
    assert_mistake(run([*MINE, *more]), says)


@pytest.mark.parametrize("more", [["--loss", "my_net:loss"], ["--distill", "kl"]])
def test_rank_reveal_takes_a_loss(more: list[str]) -> None:
    quick = ["--name", "one", "--algorithms", "frontier", "fractions=[]"]
    code, out, err = run(["rank-reveal", *MINE[1:], *more, *quick])
    assert (code, err) == (0, "")
    assert f"loss: {'loss' if more[0] == '--loss' else 'distillation (kl)'}" in out
    refused = run(["rank-reveal", "digits", *more])
    assert refused.code == 2
    assert "is for a model of your own" in refused.err
