"""News fragments, large files, slow tests: the scripts that hold our habits do what they say."""

from __future__ import annotations

from pathlib import Path

import yaml

from scripts import changelog, large_files, slow_tests
from tests.conftest import SLOW, is_slow

ROOT = Path(__file__).parents[2]


def test_news_of_this_tree_are_sentences_with_an_issue() -> None:
    assert changelog.wrong(ROOT) == []


def test_fragments_become_the_newest_section(tmp_path: Path) -> None:
    news = tmp_path / "news"
    news.mkdir()
    (news / "README.md").write_text("how\n")
    (news / "b.md").write_text("- Second. (#2)\n")
    (news / "a.md").write_text("First. (#1)\n\nAnother `one`. (#1, #3)\n")
    (tmp_path / "CHANGELOG.md").write_text(f"{changelog.HEAD}\n## 0.1 (2026-01-01)\n- Old. (#0)\n")
    assert changelog.wrong(tmp_path) == []
    changelog.release(tmp_path, "0.2", "2026-02-02")
    assert (tmp_path / "CHANGELOG.md").read_text() == (
        "# Changes\n\n## 0.2 (2026-02-02)\n- First. (#1)\n- Another `one`. (#1, #3)\n"
        "- Second. (#2)\n\n## 0.1 (2026-01-01)\n- Old. (#0)\n"
    )
    assert [path.name for path in news.iterdir()] == ["README.md"]
    (news / "c.md").write_text("no capital\n")
    assert len(changelog.wrong(tmp_path)) == 2


def test_large_files_are_named(tmp_path: Path) -> None:
    small, big = tmp_path / "small", tmp_path / "big"
    small.write_bytes(b"x")
    big.write_bytes(bytes(large_files.MOST + 1))
    (found,) = large_files.large([str(small), str(big), "absent"])
    assert found.startswith(f"{big} has 500,001 bytes")


def test_slow_tests_are_those_that_took_long() -> None:
    log = (
        "1.50s call     tests/a/test_x.py::test_one[p q]\n"
        "0.90s setup    tests/a/test_x.py::test_one"
        "\n0.10s call     tests/a/test_x.py::test_two\n"
    )
    assert slow_tests.slow(log) == ["tests/a/test_x.py::test_one"]
    names = frozenset(["tests/a/test_x.py::test_one", "tests/b/test_y.py"])
    assert is_slow("tests/a/test_x.py::test_one[p q]", names)
    assert is_slow("tests/b/test_y.py::test_any", names)
    assert not is_slow("tests/a/test_x.py::test_two", names)


def test_the_list_of_slow_tests_names_files_that_exist() -> None:
    lines = [x for x in SLOW.read_text("utf-8").splitlines() if x and not x.startswith("#")]
    for line in lines:
        file, _, function = line.partition("::")
        assert (ROOT / file).is_file(), f"{line}: measure again with scripts/slow_tests.py"
        name = function.partition("[")[0]
        assert not name or f"def {name}(" in (ROOT / file).read_text("utf-8"), line


def test_pre_commit_runs_what_is_there() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text("utf-8"))["repos"][0]
    scripts = [w for h in hooks["hooks"] for w in h["entry"].split() if w.startswith("scripts/")]
    assert scripts
    assert all((ROOT / script).is_file() for script in scripts)
