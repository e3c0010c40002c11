"""The commands on kept runs."""

import json

from tools.cli import main
from tools.sides.kept.store import KeptRun, KeptTree, RunStore
from tools.workers.protocol import Reach

REACH = Reach(functions={}, opened=(), variables=(), unsure=())


def test_kept_trees_are_listed_and_removed(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("GOLDENTRACE_CACHE", str(tmp_path))
    store = RunStore(tmp_path / "recordings")
    folder = store.folder("context", "tree")
    tree = KeptTree(
        side="pypi:0.5.23",
        target="sglang",
        release="0.5.23",
        files={},
        texts={},
        imports=REACH,
        variables={},
        builders=(),
    )
    store.write_tree(folder, tree)
    store.write_run(folder, "a", KeptRun(text="{}", sites="", reason="", reach=REACH, seconds=1.0))
    (tmp_path / "sglang").mkdir()

    assert main(["cache", "list", "--json"]) == 0
    [listed] = json.loads(capsys.readouterr().out)["trees"]
    assert (listed["side"], listed["runs"], listed["path"]) == ("pypi:0.5.23", 1, str(folder))
    assert main(["cache", "list"]) == 0
    assert "  sglang pypi:0.5.23  1 run  used " in capsys.readouterr().out

    assert main(["cache", "clear"]) == 0
    assert "removed 1 tree" in capsys.readouterr().out
    assert not (tmp_path / "recordings").exists()
    assert (tmp_path / "sglang").is_dir()
