import gc

from traces.recording.object_ids import ObjectIds, OwnerNames


class Pool:
    pass


class WidePool(Pool):
    pass


class NoWeakReference:
    __slots__ = ()


def test_labels_are_numbered_by_first_sight_for_each_name():
    labels = ObjectIds()
    one, two = Pool(), Pool()

    assert labels.label(two, "Pool") == "Pool#1"
    assert labels.label(one, "Pool") == "Pool#2"
    assert labels.label(two, "Pool") == "Pool#1"
    assert labels.label(NoWeakReference(), "Other") == "Other#1"


def test_reused_address_gets_a_new_label():
    labels = ObjectIds()
    seen = {labels.label(Pool(), "Pool") for _ in range(20)}
    gc.collect()

    assert len(seen) == 20


def test_name_is_that_of_the_nearest_registered_class():
    labels = ObjectIds()
    labels.register(Pool, "Pool")

    class Local(WidePool):
        pass

    assert labels.name_of(Local) == "Pool"
    labels.register(WidePool, "WidePool")
    assert labels.name_of(Local) == "WidePool"
    assert labels.name_of(int) is None


def test_owner_is_its_first_name():
    owners = OwnerNames()
    owners.name("NSA#1", side="device", pool="KV")
    owners.name("NSA#1", side="device", pool="INDEXER")

    assert owners.resolve("NSA#1", side="device") == "device.KV"


def test_owner_without_a_name_is_named_by_its_class():
    owners = OwnerNames()

    assert owners.resolve("SWAKVPool#3", side="device") == "device.SWAKVPool"
    assert owners.resolve("SWAKVPool#4", side="device") == "device.SWAKVPool#2"
    assert owners.resolve("SWAKVPool#3", side="device") == "device.SWAKVPool"


def test_second_pool_of_one_name_gets_a_number():
    owners = OwnerNames()
    owners.name("Host#1", side="host", pool="KV")
    owners.name("Host#2", side="host", pool="KV")

    assert owners.resolve("Host#1", side="host") == "host.KV"
    assert owners.resolve("Host#2", side="host") == "host.KV#2"
