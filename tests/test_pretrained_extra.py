"""Without the extra ``hf`` a model of transformers is refused in one line."""

import sys
from pathlib import Path

import pytest
from command import assert_mistake, run

pytestmark = pytest.mark.usefixtures("elsewhere")


@pytest.mark.parametrize("name", ["some/model", "folder"])
def test_the_line_says_what_to_install(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    Path("folder").mkdir()
    Path("folder/config.json").write_text("{}")
    answer = run(["compress", name, "--data", "text.txt"])
    assert_mistake(answer, "pip install 'svdbench[hf]'")
