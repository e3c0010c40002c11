"""Each kind of fault of a release on a few lines: what it changes and what it leaves alone."""

import pytest

from tools.mutation.generator import MutationScope, generate_mutants
from tools.mutation.release import KINDS
from tools.mutation.source.signatures import SourceTree
from tools.mutation.source.source_tree import SourceUnit

POOL = """\
import threading


class Pool:
    def __init__(self, owner, config):
        self.counter = None
        self.gate = threading.Event()
        owner.register_buffer(self)
        self.states["kv"] = owner
        self.size = config.size
        log.info("made")

    def get_key_buffer(self, layer):
        if self.counter is not None:
            self.counter.wait_until(layer)
        return self.rows[layer]

    def load(self, stream, event):
        stream.wait_event(event)
        self.gate.wait()
        names.append(1)
"""
TREE = """\
class Tree:
    def back_up(self, node):
        self.ongoing[node.id] = (node, self.inc_lock_ref(node).to_params())

    def finish(self, ack):
        if not ack.event.query():
            return
        node, params = self.ongoing.pop(ack.id)
        self.dec_lock_ref(node, params)
"""
STORAGE = """\
def config_suffix(model, rank):
    suffix = f"_{model}_{rank}"
    position = start + count
    entries = build(position) + [suffix]
    return suffix


def clamp(prefix_len, page_size):
    usable = min(prefix_len, 7 * page_size)
    other = max(a, b)
    matched_len = lengths.clamp(max=usable)
    if min(prefix_len, page_size) < 3:
        raise ValueError("too few")
    raise ValueError(f"{usable}")


def page_hash(tokens, before):
    return get_hash(tokens, prior_hash=before)
"""
PAGES = """\
class HostPool:
    def get_contiguous_buf_infos(self):
        pointers = [one.data_ptr() for one in self.k_refs + self.v_refs]
        return pointers, self.lengths

    def get_data_page(self, index: Slots[int]) -> Rows[Page]:
        stride = self.heads * self.width
        return self.rows[index : index + self.page]

    def size_of(self, index):
        return self.rows[index + 1], self.heads

    def get_page_size(self, index):
        return self.sizes[index]
"""
WIRING = """\
def build(params, draft_pool):
    pool = HostPool(size=params.size, layout="x", dtype=params.store_dtype)
    other = Unknown(size=params.size)
    bind(draft_pool=draft_pool, num_draft_tokens=3)
    bind(draft_pools=[draft_pool], draft_layers=())
    width = params.width_dtype
    params.fused_dtype = 3
    return pool, params.dtype()
"""


def mutants(kind, source, **options):
    tree = SourceTree([SourceUnit("pool.py", source.encode())])
    scope = MutationScope(
        files=("pool.py",), wiring_paths=(), wiring_functions=(), ordering_paths=(), **options
    )
    return generate_mutants(tree, scope, {kind: KINDS[kind]})


def changed(kind, source, **options):
    """Return the changed lines of every mutant."""
    found = []
    for mutant in mutants(kind, source, **options):
        pairs = zip(source.splitlines(), mutant.texts["pool.py"].splitlines(), strict=True)
        found.append([new.strip() for old, new in pairs if old != new])
    return found


def keys(kind, source, **options):
    return [one.key.removeprefix("pool.py ") for one in mutants(kind, source, **options)]


def test_wait_of_an_accessor_is_left_out_and_no_fence():
    assert keys("drop_wait", POOL) == [
        "Pool.get_key_buffer without self.counter.wait_until(layer)",
    ]


def test_fence_between_streams_is_left_out_and_no_wait_of_threads():
    assert keys("drop_fence", POOL) == ["Pool.load without stream.wait_event(event)"]


def test_registration_is_left_out_and_no_other_item():
    assert keys("drop_registration", POOL) == [
        "Pool.__init__ without owner.register_buffer(self)",
        'Pool.__init__ without self.states["kv"] = owner',
    ]


def test_lock_is_never_given_up():
    assert changed("never_release_lock", TREE) == [["..."]]


def test_lock_is_given_up_at_the_launch_or_without_looking_at_the_copy():
    assert changed("release_lock_early", TREE) == [
        [
            (
                "self.ongoing[node.id] = (node, (lambda lock: (self.dec_lock_ref(node, lock), "
                "lock)[1])(self.inc_lock_ref(node).to_params()))"
            ),
            "(node, params, )",
        ],
        ["if not True:"],
    ]


def test_lock_that_a_function_takes_and_gives_up_itself_is_none_of_a_copy():
    own = TREE.replace(
        "    def finish",
        "    def undo(self, node):\n"
        "        self.inc_lock_ref(node)\n"
        "        self.ongoing.get(node.id)\n"
        "        self.dec_lock_ref(node, None)\n\n"
        "    def finish",
    )
    assert changed("release_lock_early", own) == changed("release_lock_early", TREE)


def test_component_of_a_key_is_left_out_and_no_position():
    assert changed("drop_key_component", STORAGE) == [
        ['suffix = f"__{rank}"'],
        ['suffix = f"_{model}_"'],
        ["return get_hash(tokens, prior_hash=None)"],
    ]


def test_clamp_of_a_length_gives_one_operand_or_a_page_more():
    assert changed("shorten_clamp", STORAGE) == [
        ["usable = (prefix_len)"],
        ["usable = (7 * page_size)"],
        ["usable = (min(prefix_len, 7 * page_size) + page_size)"],
        ["matched_len = (lengths)"],
    ]


def test_neighbours_of_buffer_infos_are_swapped_and_no_others():
    assert changed("swap_pointers", PAGES) == [
        ["return self.lengths, pointers"],
        ["pointers = [one.data_ptr() for one in self.v_refs + self.k_refs]"],
    ]


def test_offset_of_a_page_is_one_too_large_in_getters_of_pages_only():
    assert changed("page_offset", PAGES) == [
        ["return self.rows[(index) + 1 : (index + self.page) + 1]"],
        ["stride = (self.heads * self.width) + 1"],
    ]


def test_none_is_passed_for_a_draft_and_not_for_a_number():
    assert changed("draft_none", WIRING) == [
        ["bind(draft_pool=None, num_draft_tokens=3)"],
        ["bind(draft_pools=(), draft_layers=())"],
    ]


def test_setting_is_left_out_where_the_constructor_has_a_default():
    optional = {"HostPool": frozenset({"size", "layout"})}
    assert [mutant.parameters for mutant in mutants("drop_flag", WIRING)] == []
    found = mutants("drop_flag", WIRING, optional_parameters=optional)
    assert [(one.key, one.parameters) for one in found] == [
        ("pool.py build HostPool without size", ("size",))
    ]


def test_dtype_is_read_from_another_attribute_that_is_no_method_and_not_written():
    assert [key.partition(" in ")[0] for key in keys("wrong_attribute", WIRING)] == [
        "build params.store_dtype -> fused_dtype",
        "build params.width_dtype -> fused_dtype",
    ]
    without_others = WIRING.replace("fused_dtype", "name").replace("width_dtype", "width")
    assert keys("wrong_attribute", without_others) == []


@pytest.mark.parametrize("kind", KINDS)
def test_functions_outside_of_the_scope_and_kernels_are_left_alone(kind):
    source = POOL + TREE + STORAGE + PAGES + WIRING
    optional = {"HostPool": frozenset({"size", "layout"})}
    only = {"pool.py": frozenset({"other"})}
    assert keys(kind, source, optional_parameters=optional)
    assert keys(kind, source, optional_parameters=optional, functions=only) == []
    kernels = "\n".join(
        f"{line[: len(line) - len(line.lstrip())]}@triton.jit\n{line}"
        if line.lstrip().startswith("def ")
        else line
        for line in source.splitlines()
    )
    assert keys(kind, kernels, optional_parameters=optional) == []
