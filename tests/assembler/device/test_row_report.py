import pytest
import torch

from assembler.device.row_report import RowReport
from assembler.errors import TransferError


def test_nothing_reported_passes():
    word = torch.tensor([7])
    report = RowReport(word)

    report.check()

    assert word.item() == 0


@pytest.mark.parametrize("row", [100, -1, -(1 << 31), (1 << 31) - 1])
def test_a_row_outside_raises_once_with_the_rows_there_are(row):
    word = torch.tensor([0])
    report = RowReport(word)

    word[0] = (100 << 32) + (1 << 31) + row
    with pytest.raises(
        TransferError,
        match=rf"^kernel copy: rows must lie in the buffer; expected 0 to 99, got {row}$",
    ):
        report.check()

    report.check()
