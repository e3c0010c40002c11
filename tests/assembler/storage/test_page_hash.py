import hashlib
import struct

import pytest

from assembler.errors import StorageError
from assembler.storage.page_hash import page_hashes


def test_each_hash_covers_the_raw_digest_before_it_and_its_own_tokens():
    first = hashlib.sha256(struct.pack("<2I", 7, 2**32 - 1)).digest()
    second = hashlib.sha256(first + struct.pack("<2I", 9, 0)).hexdigest()

    assert page_hashes([7, 2**32 - 1, 9, 0], page_size=2, last_hash=None) == [first.hex(), second]
    assert page_hashes([9, 0], page_size=2, last_hash=first.hex()) == [second]


def test_a_partial_page_has_no_hash():
    assert len(page_hashes([1, 2, 3], page_size=2, last_hash=None)) == 1
    assert page_hashes([1], page_size=2, last_hash=None) == []


def test_a_pair_of_tokens_counts_with_both():
    pairs = page_hashes([(1, 2), (2, 3)], page_size=2, last_hash=None)
    assert pairs == page_hashes([1, 2, 2, 3], page_size=4, last_hash=None)


@pytest.mark.parametrize("token", [-1, 2**32])
def test_a_token_id_beyond_four_bytes_raises(token):
    message = rf"token id: must fit in four bytes; expected 0 to 4294967295, got \[{token}\]"
    with pytest.raises(StorageError, match=message):
        page_hashes([0, token], page_size=2, last_hash=None)
