"""docs/contract.md cannot rot: its profile example is complete and loads, and it speaks of every operation."""

import re
from pathlib import Path

from contract_document import DOCUMENT

from harness.contract import profile_file
from harness.contract.profile import load_profile

PAGE = (Path(__file__).parents[3] / "docs" / "contract.md").read_text(encoding="utf-8")
EXAMPLE = re.search(r"```toml\n(.*?)```", PAGE, re.DOTALL)[1]


def test_the_example_profile_loads_and_states_the_defaults(tmp_path):
    path = tmp_path / "ours.toml"
    path.write_text(EXAMPLE)
    profile = load_profile(path)
    path.write_text('name = "x"\n[regions.a]\napi = "http://localhost"')
    defaults = load_profile(path)
    assert profile.capabilities == defaults.capabilities
    assert profile.slo == defaults.slo


def test_the_example_profile_has_every_key():
    tables = vars(profile_file)
    for table in ("_TOP", "_USERS", "_START", "_CAPABILITIES", "_SLO", "_REGION", "_OPERATOR"):
        missing = [key for key in tables[table] if not re.search(rf"^{key} = ", EXAMPLE, re.MULTILINE)]
        assert not missing, table
    for placeholder in (*profile_file.PLACEHOLDERS, "profile_dir"):
        assert f"`{{{placeholder}}}`" in PAGE


def test_every_problem_and_header_has_its_words():
    for header in ("Feed-Degraded", "Retry-After", "Idempotency-Key", "Last-Event-ID"):
        assert f"`{header}" in PAGE
    for path in DOCUMENT["paths"]:
        assert path.split("/{")[0].rpartition("/")[2] in PAGE, path
