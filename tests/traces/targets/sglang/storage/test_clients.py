"""Models of clients: each keeps the pages that it is handed, and gives them back."""

import importlib
from types import SimpleNamespace

import pytest
import torch

from traces.targets.sglang.storage.client_store import ClientStore, KnownBuffer
from traces.targets.sglang.storage.clients import client_packages

PAGE = 8


@pytest.fixture
def rows():
    """Two pages of eight bytes."""
    return torch.arange(2 * PAGE, dtype=torch.uint8)


@pytest.fixture
def package(rows):
    """Import a module of a modelled package."""
    store = ClientStore("any", [KnownBuffer.of(rows, name="KV.kv_buffer")])
    with client_packages(store):
        yield importlib.import_module


def pointers(rows):
    return rows.data_ptr(), rows.data_ptr() + PAGE


def came_back(rows):
    return rows[PAGE:].tolist() == list(range(PAGE))


@pytest.mark.parametrize(
    ("module", "name", "success"),
    [
        ("mooncake.store", "MooncakeDistributedStore", PAGE),
        ("memcache_hybrid", "DistributedObjectStore", 0),
    ],
)
def test_pointer_client_moves_pages_by_address(package, rows, module, name, success):
    client = getattr(package(module), name)()
    first, second = pointers(rows)
    assert client.setup("host") == 0
    assert client.register_buffer(first, 2 * PAGE) == 0
    assert client.batch_is_exist(["a"]) == [0]
    assert client.batch_put_from(["a"], [first], [PAGE]) == [0]
    assert client.batch_is_exist(["a", "b"]) == [1, 0]
    assert client.batch_get_into(["a", "b"], [second, second], [PAGE, PAGE]) == [success, -1]
    assert came_back(rows)


def test_pointer_client_joins_pieces_of_a_page(package, rows):
    client = package("mooncake.store").MooncakeDistributedStore()
    first, second = pointers(rows)
    client.register_buffer(first, 2 * PAGE)
    pieces = [[first, first + 4]], [[4, 4]]
    assert client.batch_put_from_multi_buffers(["a"], *pieces) == [0]
    assert client.batch_get_into(["a"], [second], [PAGE]) == [PAGE]
    assert came_back(rows)


def test_probe_of_a_connection_is_no_page(package):
    client = package("mooncake.store").MooncakeDistributedStore()
    client.put("probe-1234", b"ping")
    assert (client.is_exist("probe-1234"), client.get("probe-1234")) == (1, b"ping")
    assert client.batch_is_exist(["probe-1234"]) == [0]


def test_simm_moves_views_of_registered_memory(package, rows):
    simm = package("simm.kv")
    first, second = pointers(rows)
    region = simm.register_mr(rows)
    client = simm.Store()
    assert client.mput(["a"], [simm.BlockView.from_buffer(first, PAGE, region)]) == [0]
    assert client.mexists(["a", "b"]) == [True, False]
    view = simm.BlockView.from_buffer(second, PAGE, region)
    assert client.mget(["a", "b"], [view, view]) == [PAGE, -1]
    assert came_back(rows)


def test_s3_keeps_objects_and_refuses_missing_ones(package):
    client = package("boto3").client("s3", endpoint_url="http://127.0.0.1")
    client.put_object(Bucket="pages", Key="a", Body=b"page")
    assert client.get_object(Bucket="pages", Key="a")["Body"].read() == b"page"
    client.head_object(Bucket="pages", Key="a")
    with pytest.raises(client.exceptions.ClientError) as refused:
        client.head_object(Bucket="pages", Key="b")
    assert refused.value.response["Error"]["Code"] == "404"


def test_eic_moves_lists_of_addresses(package, rows):
    eic = package("eic")
    first, second = pointers(rows)
    client = eic.Client()

    def buffers(address):
        found = eic.IOBuffers()
        found.append(address, PAGE, True)
        return found

    whole = eic.IOBuffers()
    whole.append(first, 2 * PAGE, True)
    client.register_memory(whole, eic.MemoryInfo())
    option = SimpleNamespace(ns="")
    status, _ = client.mset(["a"], buffers(first), option)
    assert status == eic.StatusCode.SUCCESS
    _, outcome = client.mexist(["a", "b"], option)
    assert outcome.status_codes == [eic.StatusCode.SUCCESS, eic.StatusCode.FAILED]
    status, _, _ = client.mget(["a"], option, buffers(second))
    assert status == eic.StatusCode.SUCCESS
    status, _, _ = client.mget(["b"], option, buffers(second))
    assert status == eic.StatusCode.PARTIAL_FAILED
    assert came_back(rows)


def test_nixl_moves_between_memory_and_objects(package, rows):
    api = package("nixl._api")
    agent = api.nixl_agent("agent", api.nixl_agent_config(backends=[]))
    first, second = pointers(rows)
    agent.register_memory(agent.get_reg_descs([(first, 2 * PAGE, 0, "")], "DRAM"))

    def move(direction, address, key):
        registered = agent.register_memory(agent.get_reg_descs([(0, PAGE, 7, key)], "OBJ"))
        host = agent.get_xfer_descs([(address, PAGE, 0)], "DRAM")
        remote = agent.get_xfer_descs([(0, PAGE, 7)], "OBJ")
        state = agent.transfer(agent.initialize_xfer(direction, host, remote, "agent"))
        agent.deregister_memory(registered)
        return state

    assert move("WRITE", first, "a") == "DONE"
    assert agent.query_memory([(0, 0, 0, "a"), (0, 0, 0, "b")], "OBJ", mem_type="OBJ") == [{}, None]
    assert move("READ", second, "b") == "ERR"
    assert move("READ", second, "a") == "DONE"
    assert came_back(rows)


def test_aibrix_keys_have_the_shape_of_a_block(package):
    own = package("aibrix_kvcache")

    def manager(dtype):
        tensor = own.KVCacheTensorSpec(heads=[2, 3], layers=range(2), head_size=4)
        spec = own.KVCacheBlockSpec(block_ntokens=16, block_dtype=dtype, tensor_spec=tensor)
        return own.BaseKVCacheManager(own.KVCacheConfig(block_spec=spec))

    hashes = own.BlockHashes(["a", "b"], 16)
    cache = manager(torch.float32)
    handle = cache.allocate_for(None, hashes).value
    for number, block in enumerate(handle.to_tensors()):
        block.fill_(number)
    assert cache.put(None, hashes, handle).value == 32
    assert cache.exists(None, hashes).value == 32
    tokens, found = cache.acquire(None, hashes).value
    assert (tokens, [block[0].item() for block in found.to_tensors()]) == (32, [0, 1])
    assert not manager(torch.bfloat16).exists(None, hashes).is_ok()
