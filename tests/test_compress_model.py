"""``svdbench compress MODULE:BUILD``: a model of the user's own, from its module to its files."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from command import assert_mistake, run, table
from safetensors.torch import save_file

from svdbench.errors import UserError
from svdbench.jobs.user_model import user_model
from svdbench.lowrank import LowRankLinear, compress, load

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
            assert "2.weight left alone: not asked for" in out
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
        ({"build": "my_net:nothing"}, "returned None: it must return a torch.nn"),
        ({"build": "my_net:fails"}, "KeyError: 'weights' (my_net.py, line "),
        ({"build": "broken:build"}, "ZeroDivisionError: division by zero (broken.py, line 2)"),
        ({"build": "needy:build"}, "needs no_such_package: install it"),
        ({"build": "my_net:wide"}, "0.weight is [24, 12] in the file and [30, 12]"),
        ({"weights": "none.pt"}, "No such file"),
        ({"weights": "my_net.py"}, "is not a file of weights"),
        ({"weights": "pickle.pt"}, "needs torch.nn.modules.container.Sequential besides tensors"),
        ({"data": "my_net:nothing"}, "it returned None: return (X, y)"),
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
        (["compress", "my_net:build"], "there are no examples"),
        (["compress", "my_nt:build", *MINE[4:]], "there is no module 'my_nt'"),
        ([*MINE, "--weights", "pickle.pt"], "to load it could run anybody's code"),
        ([*MINE, "--rank", "3"], "--rank is of networks that are trained"),
        (["compress", "digits", "--params", "0.5"], "--params is of a model of your own"),
        ([*MINE, "--params", "1.5"], "give a fraction"),
        ([*MINE, "--params", "0.5", "--macs", "0.5"], "give one of them"),
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
        (["--loss", "my_net:odd_loss"], "my_net:build: "),
        (["--params", "0.001"], "the smallest factors take"),
        (["layers=[8.weight]"], "no weight is called '8.weight'"),
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
    Path("few.py").write_text(
        "import torch\nfrom my_net import X, y\ndef data():\n    return X[:4], y[:4]\n"
        "def nan(output, target):\n    return output.mean() * (float('nan') if len(y) else 1)\n"
    )
    for more in ([], ["--loss", "few:nan", "--kind", "whitened", "--name", "two"]):
        code, out, err = run([*QUICK, "--data", "few:data", "timing_s=0", "--params", "0.5", *more])
        assert (code, err) == (0, "")
        assert "on 1 examples that chose nothing" in out
    sys.modules.pop("few")


def test_an_interruption_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("svdbench.jobs.compress_model.compress", interrupted)
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
    with pytest.raises(UserError, match="not a whole safetensors file"):
        user_model("my_net:build", "model.safetensors")
