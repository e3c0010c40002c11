import pytest
import torch


@pytest.mark.parametrize(
    ("dtype", "store_dtype"),
    [
        (torch.float8_e4m3fn, torch.uint8),
        (torch.float8_e5m2, torch.uint8),
        (torch.bfloat16, torch.bfloat16),
        (torch.float16, torch.float16),
    ],
)
def test_float8_is_stored_as_bytes(pools, dtype, store_dtype):
    assert pools.mha(dtype=dtype).store_dtype == store_dtype


def test_nothing_is_waited_for_without_a_counter(pools):
    pool = pools.mha()

    assert pool.layer_transfer_counter is None
    assert pool.get_key_buffer(2) is pool.k_buffer[2]


def test_public_tensors_are_the_row_buffers_only(pools):
    public = {
        name
        for pool in (pools.mha(), pools.nsa(), pools.mamba())
        for name, value in vars(pool).items()
        if not name.startswith("_")
        and (
            isinstance(value, torch.Tensor)
            or (isinstance(value, list) and value and isinstance(value[0], torch.Tensor))
        )
    }

    assert public == {
        "k_buffer",
        "v_buffer",
        "kv_buffer",
        "index_k_with_scale_buffer",
        "temporal",
        "conv",
    }
