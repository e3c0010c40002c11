"""Results go on where a killed driver left off."""

import pytest

from tools.errors import ToolError
from tools.mutation.campaign.journal import open_journal
from tools.mutation.campaign.tasks import MutantResult


def result(number, verdict="killed"):
    return MutantResult(id=str(number), operator="drop_edge", key="k", label="l", verdict=verdict)


def test_a_rerun_knows_what_is_finished_and_forgets_half_a_line(tmp_path):
    file = tmp_path / "out" / "journal.jsonl"
    with open_journal(file, campaign="c") as journal:
        journal.add(result(1))
        journal.add(result(2, "survived"))
        journal.add(result(2, "equivalent"))
    with file.open("ab") as stream:
        stream.write(b'{"id":"3","operator":"dr')

    with open_journal(file, campaign="c") as journal:
        assert {key: found.verdict for key, found in journal.finished.items()} == {
            "1": "killed",
            "2": "equivalent",
        }
        journal.add(result(3))
    assert [line[:7] for line in file.read_text().splitlines()[1:]] == [
        '{"id":"',
        '{"id":"',
        '{"id":"',
    ]


def test_journal_of_another_campaign_is_refused(tmp_path):
    file = tmp_path / "journal.jsonl"
    with open_journal(file, campaign="c"):
        pass
    with (
        pytest.raises(ToolError, match="must be of the same source"),
        open_journal(file, campaign="d"),
    ):
        pass


def test_without_a_file_results_stay_in_memory():
    with open_journal(None, campaign="c") as journal:
        journal.add(result(1))
        assert list(journal.finished) == ["1"]
