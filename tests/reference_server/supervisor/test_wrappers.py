"""Words that a part is started with: read if they are ours, refused if others could have written them."""

from __future__ import annotations

from pathlib import Path

import pytest

from reference_server.supervisor.family import StackUnavailable, read_wrapper


@pytest.fixture
def wrapper(tmp_path: Path) -> Path:
    (tmp_path / "wrappers").mkdir(mode=0o755)
    path = tmp_path / "wrappers" / "us-east.api"
    path.write_text('["env", "A=1"]')
    return path


def test_words_are_read(wrapper: Path) -> None:
    assert read_wrapper("us-east.api", wrapper) == ["env", "A=1"]
    wrapper.unlink()
    assert read_wrapper("us-east.api", wrapper) == []


def test_what_others_could_have_written_is_refused(wrapper: Path) -> None:
    for place, mode in ((wrapper, 0o644), (wrapper.parent, 0o755)):
        place.chmod(mode | 0o002)
        with pytest.raises(StackUnavailable, match="could have been written by others"):
            read_wrapper("us-east.api", wrapper)
        place.chmod(mode)
    assert read_wrapper("us-east.api", wrapper)


def test_what_is_no_list_of_words_is_refused(wrapper: Path) -> None:
    wrapper.write_text("{")
    with pytest.raises(StackUnavailable, match="no JSON list of words"):
        read_wrapper("us-east.api", wrapper)
