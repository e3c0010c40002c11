"""Hypothesis state machine that draws random traffic and shrinks what violates an invariant."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, get_args

from hypothesis import HealthCheck, Phase, Verbosity, seed, settings
from hypothesis import strategies as st
from hypothesis.internal.conjecture.providers import AVAILABLE_PROVIDERS, HypothesisProvider
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test
from typing_extensions import override

from traces.explore import steps
from traces.explore.config import TrafficConfig
from traces.explore.reduction import reduce_replay
from traces.explore.replay import TrafficReplay
from traces.explore.steps import FAULT_SITES, ComponentName, FaultSite, TrafficStep
from traces.explore.subject import OpenSubject, Subject, ViolationError

DEFAULT_STEP_NUM = 20
_BACKEND = "goldentrace"
# Hypothesis tries the simplest traffic first, which is no traffic; the second one is drawn.
_EXAMPLES = 2

_pages = st.integers(1, 2)
_places = st.integers(0, 7)
_parts = st.sampled_from(get_args(ComponentName))


class _UniformProvider(HypothesisProvider):
    """Choices of integers, all equally likely.

    Hypothesis's own source prefers constants it finds in the modules that happen to be imported,
    so that the same seed would mean other traffic in another program.
    """

    @override
    def draw_integer(
        self,
        min_value: int | None = None,
        max_value: int | None = None,
        *,
        weights: dict[int, float] | None = None,
        shrink_towards: int = 0,
    ) -> int:
        del weights, shrink_towards
        assert self._random is not None
        assert min_value is not None
        assert max_value is not None
        return self._random.randint(min_value, max_value)


class TrafficMachine(RuleBasedStateMachine):
    """State machine that applies drawn steps to a subject, opened by the first one that needs it.

    Hypothesis sorts rules by name: renaming a rule changes the traffic of every seed.

    Attributes:
        steps: applied so far.
    """

    def __init__(self, config: TrafficConfig, *, open_subject: OpenSubject) -> None:
        super().__init__()
        self.steps: list[TrafficStep] = []
        self._config = config
        self._open_subject = open_subject
        self._subject: Subject | None = None
        self._inserted = 0

    # Must be the first rule in alphabetical order: it is the one that Hypothesis repeats first.
    @rule()
    def advance(self) -> None:
        """Let the device work."""
        if self._subject is not None:
            self._apply(steps.StepDevice())

    @rule(pages=_pages)
    def insert(self, pages: int) -> None:
        """Cache a new node."""
        self._inserted += 1
        self._apply(steps.Insert(node=self._inserted - 1, pages=pages))

    @precondition(lambda self: self._inserted > 0)
    @rule(place=_places, shared=_pages, pages=_pages)
    def share_prefix(self, place: int, shared: int, pages: int) -> None:
        """Cache a new node that shares pages with another, whatever happens to that one."""
        base = place % self._inserted
        self._inserted += 1
        self._apply(steps.Extend(node=self._inserted - 1, base=base, shared=shared, pages=pages))

    @rule(pages=_pages)
    def insert_and_back_up(self, pages: int) -> None:
        """Cache a new node that is backed up at once, as with ``write_through``."""
        self.insert(pages)
        self._apply(steps.Backup(node=self._inserted - 1))

    @rule(pages=_pages)
    def put_away(self, pages: int) -> None:
        """Cache a new node that only the host keeps."""
        self.insert_and_back_up(pages)
        self._apply(steps.CheckWrites(wait=True))
        self._apply(steps.Evict(part="full", pages=6))

    @rule(pages=_pages)
    def abandon(self, pages: int) -> None:
        """Abort a request."""
        self._apply(steps.AbortRequest(pages=pages))

    @precondition(lambda self: self.has_nodes())
    @rule(place=_places)
    def backup(self, place: int) -> None:
        """Back a node up."""
        self._apply(steps.Backup(node=self._node_at(place)))

    @precondition(lambda self: self.has_nodes())
    @rule(wait=st.booleans())
    def check_writes(self, *, wait: bool) -> None:
        """Unlock what was backed up."""
        self._apply(steps.CheckWrites(wait=wait))

    @precondition(lambda self: self.has_nodes())
    @rule(place=_places)
    def load(self, place: int) -> None:
        """Queue a load."""
        self._apply(steps.LoadBack(node=self._node_at(place)))

    @precondition(lambda self: self.has_nodes())
    @rule(place=_places)
    def load_and_read(self, place: int) -> None:
        """Load a node and read it while the load is under way, as a forward pass does."""
        node = self._node_at(place)
        self._apply(steps.LoadBack(node=node))
        self._apply(steps.Launch())
        self._apply(steps.Forward(node=node))

    @precondition(lambda self: self.has_nodes())
    @rule(place=_places)
    def load_and_launch(self, place: int) -> None:
        """Load a node, and let the forward pass wait."""
        self._apply(steps.LoadBack(node=self._node_at(place)))
        self._apply(steps.Launch())

    @precondition(lambda self: self.has_nodes())
    @rule(place=_places, site=st.sampled_from(FAULT_SITES), after=st.integers(0, 4))
    def fail_to_load(self, place: int, site: FaultSite, after: int) -> None:
        """Load a node while something fails."""
        self._apply(steps.InjectFault(site=site, after=after, times=1))
        self.load_and_launch(place)

    @precondition(lambda self: self.has_nodes())
    @rule(place=_places, after=st.integers(0, 4))
    def fail_to_load_and_reuse(self, place: int, after: int) -> None:
        """Let a load fail half-way on a full device, and hand its slots out again."""
        self._apply(steps.ReserveSlots(side="device", part="full", spare=1))
        self._apply(steps.InjectFault(site="copy", after=after, times=1))
        self.load_and_launch(place)
        self.insert(1)

    @rule(after=st.integers(0, 4))
    def fail_to_back_up_and_reuse(self, after: int) -> None:
        """Let a backup fail half-way on a full device, and hand its slots out again."""
        self._apply(steps.ReserveSlots(side="device", part="full", spare=1))
        self.insert(1)
        self._apply(steps.InjectFault(site="copy", after=after, times=1))
        self._apply(steps.Backup(node=self._inserted - 1))
        self._apply(steps.Evict(part="full", pages=1))
        self.insert(1)

    @precondition(lambda self: self.has_nodes())
    @rule()
    def launch(self) -> None:
        """Launch the queued loads."""
        self._apply(steps.Launch())

    @precondition(lambda self: self.has_nodes())
    @rule(place=_places)
    def read(self, place: int) -> None:
        """Run a forward pass."""
        self._apply(steps.Forward(node=self._node_at(place)))

    @precondition(lambda self: self.has_nodes())
    @rule()
    def check_loads(self) -> None:
        """Unlock what was loaded."""
        self._apply(steps.CheckLoads())

    @precondition(lambda self: self.has_nodes())
    @rule(part=_parts, pages=st.integers(1, 6))
    def evict(self, part: ComponentName, pages: int) -> None:
        """Make room on the device."""
        self._apply(steps.Evict(part=part, pages=pages))

    @precondition(lambda self: self.has_nodes())
    @rule(pages=st.integers(1, 6))
    def move_out(self, pages: int) -> None:
        """Make room on the device as soon as backups are done."""
        self._apply(steps.CheckWrites(wait=True))
        self._apply(steps.Evict(part="full", pages=pages))

    @precondition(lambda self: self.has_nodes())
    @rule(part=_parts, pages=_pages)
    def evict_host(self, part: ComponentName, pages: int) -> None:
        """Make room on the host."""
        self._apply(steps.EvictHost(part=part, pages=pages))

    @rule(side=st.sampled_from(["device", "host"]), part=_parts, spare=st.integers(0, 2))
    def hoard(self, side: Literal["device", "host"], part: ComponentName, spare: int) -> None:
        """Make a pool full."""
        self._apply(steps.ReserveSlots(side=side, part=part, spare=spare))

    @rule()
    def give_back(self) -> None:
        """Make room in full pools."""
        self._apply(steps.ReleaseReserved())

    @rule(site=st.sampled_from(FAULT_SITES), after=st.integers(0, 4), times=st.integers(1, 2))
    def inject(self, site: FaultSite, after: int, times: int) -> None:
        """Prepare a failure."""
        self._apply(steps.InjectFault(site=site, after=after, times=times))

    @precondition(lambda self: self._inserted > 0)
    @rule(place=_places)
    def fetch(self, place: int) -> None:
        """Start fetching a node from storage."""
        self._apply(steps.Fetch(node=place % self._inserted))

    @precondition(lambda self: self._inserted > 0)
    @rule(place=_places)
    def fetch_lost(self, place: int) -> None:
        """Store and lose everything, and start fetching a node."""
        self._apply(steps.CheckWrites(wait=True))
        for _ in range(4):
            self._apply(steps.CheckStorage())
        self._apply(steps.Evict(part="full", pages=6))
        self._apply(steps.EvictHost(part="full", pages=12))
        self._apply(steps.Fetch(node=place % self._inserted))

    @precondition(lambda self: self._inserted > 0)
    @rule(place=_places)
    def finish_fetch(self, place: int) -> None:
        """Check whether a node has arrived."""
        self._apply(steps.CheckFetch(node=place % self._inserted))

    @precondition(lambda self: self._inserted > 0)
    @rule(place=_places)
    def give_fetch_up(self, place: int) -> None:
        """Abort a request whose node is fetched."""
        self._apply(steps.AbortFetch(node=place % self._inserted))

    @rule()
    def poll_storage(self) -> None:
        """Store what reached the host, and unlock what is stored."""
        self._apply(steps.CheckStorage())

    @rule()
    def reattach_storage(self) -> None:
        """Detach storage at any moment."""
        self._apply(steps.DetachStorage())

    @precondition(lambda self: self.has_nodes())
    @rule()
    def settle(self) -> None:
        """Compare everything."""
        self._apply(steps.DrainQueues())

    @precondition(lambda self: self.has_nodes())
    @rule()
    def reset_cache(self) -> None:
        """Start again."""
        self._apply(steps.ResetCache())

    @override
    def teardown(self) -> None:
        """Bring the traffic to an end."""
        if self._subject is not None:
            self._subject.finish()

    def has_nodes(self) -> bool:
        """Return whether there is a node to do something with."""
        return self._subject is not None and bool(self._subject.live_nodes())

    def _node_at(self, place: int) -> int:
        assert self._subject is not None
        nodes = self._subject.live_nodes()
        return nodes[place % len(nodes)]

    def _apply(self, step: TrafficStep) -> None:
        if self._subject is None:
            self._subject = self._open_subject(self._config)
        self.steps.append(step)
        subject, self._subject = self._subject, None
        subject.apply(step)
        # Only a subject without a violation is brought to an end.
        self._subject = subject


def find_violation(
    config: TrafficConfig, *, open_subject: OpenSubject, step_num: int, shrinks: bool
) -> TrafficReplay | None:
    """Run ``step_num`` steps of random traffic; return the reduced violation, or None.

    The same arguments give the same result in every process. Where ``shrinks`` is set, Hypothesis
    simplifies a violation, which takes some seconds; steps that are not needed are dropped in any
    case.
    """
    drawn: list[TrafficStep] = []

    # Hypothesis names its seed attribute on the function, which a bound instance cannot take.
    def make() -> TrafficMachine:
        nonlocal drawn
        machine = TrafficMachine(config, open_subject=open_subject)
        # The last machine is that of the shrunk traffic.
        drawn = machine.steps
        return machine

    try:
        with _uniform_draws():
            chosen = _settings(step_num, shrinks=shrinks)
            run_state_machine_as_test(seed(config.seed)(make), settings=chosen)  # type: ignore[arg-type]
    except ViolationError as violation:
        found = TrafficReplay(
            scenario=config.scenario.name,
            config=config.scenario.config,
            seed=config.seed,
            policy=config.policy,
            steps=tuple(drawn),
            invariant=violation.invariant,
            message=str(violation),
        )
        return reduce_replay(found, config, open_subject=open_subject)
    return None


def _settings(step_num: int, *, shrinks: bool) -> settings:
    return settings(
        backend=_BACKEND,
        max_examples=_EXAMPLES,
        stateful_step_count=step_num,
        database=None,
        deadline=None,
        derandomize=False,
        phases=(Phase.generate, Phase.shrink) if shrinks else (Phase.generate,),
        print_blob=False,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
        verbosity=Verbosity.quiet,
    )


@contextmanager
def _uniform_draws() -> Iterator[None]:
    AVAILABLE_PROVIDERS[_BACKEND] = _UniformProvider
    try:
        yield
    finally:
        del AVAILABLE_PROVIDERS[_BACKEND]
