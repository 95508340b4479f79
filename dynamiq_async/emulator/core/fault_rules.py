"""Faults by rules: which of the requests that match a rule meet its fault.

A rule counts the requests that match it, from 1, and decides about each request by its number
alone. So the same rules with the same seed always decide alike. Other requests do not matter, and
neither does the fault that a request finally meets. (If clients call concurrently, the order in
which their requests are complete may differ.)

A file of rules:

```toml
seed = 7                    # of all probabilities; 0 if it is left out

[[fault]]
route = "POST /v1/runs"     # when: see FaultRule
nth = 3
status = 503                # what: see Fault
headers = { Retry-After = "1" }

[[fault]]
app = "agent"
probability = 0.1
after_events = 5
drop = "reset"
```
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Annotated, Any

from msgspec import Meta, Struct

from .fault_data import FAULT_FIELDS, convert, fault_data, read_fault, table
from .fault_script import matches
from .faults import NO_FAULT, Fault

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from .request_record import RequestRecord

_Count = Annotated[int, Meta(ge=1)]


class _Conditions(Struct, frozen=True, kw_only=True, omit_defaults=True):
    name: str = ""
    route: str | None = None
    app: str | None = None
    nth: _Count | Annotated[list[_Count], Meta(min_length=1)] | None = None
    every: _Count | None = None
    probability: Annotated[float, Meta(ge=0, le=1)] = 1.0
    times: _Count | None = None
    enabled: bool = True


class _Seeded(Struct):
    seed: int = 0


_NAMES = FAULT_FIELDS.union(_Conditions.__struct_fields__)


class FaultRule:
    """A fault, and which requests meet it.

    Attributes:
        number: the number of its entry in the file, from 1; rules added later continue from there.
        fault: what happens.
        name: a label for people.
        route: the path within the App, with wildcards, and optionally a method before it, as
            `Emulator.script` takes it: "POST /v1/runs"; None: any.
        app: the name of the App; None: any App, and the other services too.
        nth: which matching requests meet the fault: 3 is the third one; `[1, 3]` are several.
        every: every n-th matching request meets the fault: 5 is the fifth, the tenth and so on.
        probability: the probability that such a request meets the fault, from 0 to 1.
        times: the maximum number of requests that meet the fault.
        seen: how many requests matched since the rule was switched on.
        met: how many of them the rule selected. A request meets the fault of the first rule that
            selects it; the other rules still count it.
    """

    def __init__(self, number: int, conditions: _Conditions, fault: Fault) -> None:
        self.number = number
        self.fault = fault
        self.name: str = conditions.name
        self.route: str | None = _route(conditions.route)
        self.app: str | None = conditions.app
        self.nth: int | list[int] | None = conditions.nth
        self.every: int | None = conditions.every
        self.probability: float = conditions.probability
        self.times: int | None = conditions.times
        self.seen: int
        self.met: int
        self._given = conditions
        self._enabled = conditions.enabled
        self.restart(0)
        if fault == NO_FAULT:
            raise ValueError("nothing goes wrong: give status, drop, delay, or another field")
        if self.nth is not None and self.every is not None:
            raise ValueError("give nth or every, not both")

    @property
    def enabled(self) -> bool:
        """Whether the rule is switched on. Switching it on restarts its count."""
        return self._enabled

    @enabled.setter
    def enabled(self, on: bool) -> None:
        if on and not self._enabled:
            self.restart(self._seed)
        self._enabled = on

    def restart(self, seed: int) -> None:
        """Restart the count, and the sequence of random numbers."""
        self.seen = self.met = 0
        self._seed = seed
        self._random = Random(f"{seed}/{self.number}")  # noqa: S311 - it is to be repeatable

    def decide(self, record: RequestRecord) -> bool:
        """Count a request, if it matches, and decide whether it meets the fault."""
        if not self._enabled or not self._matches(record):
            return False
        self.seen += 1
        # Drawn for each request, so that the n-th request always has the n-th random number.
        acts = self._random.random() < self.probability and self._is_its_turn()
        self.met += acts
        return acts

    def public(self) -> dict[str, Any]:
        """The rule in the form of a file's entry, with its number and its counts."""
        given = {name: getattr(self._given, name) for name in _Conditions.__struct_fields__}
        default = _Conditions()
        said = {name: value for name, value in given.items() if value != getattr(default, name)}
        counted = {"enabled": self._enabled, "seen": self.seen, "met": self.met}
        return {"number": self.number, **said, **fault_data(self.fault), **counted}

    def _matches(self, record: RequestRecord) -> bool:
        if self.app is not None and (record.app != self.app or record.service):
            return False
        return matches(self.route, record)

    def _is_its_turn(self) -> bool:
        if self.times is not None and self.met >= self.times:
            return False
        if self.every is not None:
            return self.seen % self.every == 0
        if self.nth is None:
            return True
        return self.seen in ([self.nth] if isinstance(self.nth, int) else self.nth)


class FaultRules:
    """The rules, by their numbers.

    Args:
        apps: returns the names of the existing Apps.
        path: a file to load (see `load`).

    Attributes:
        seed: the seed of all probabilities.
    """

    def __init__(
        self, apps: Callable[[], Collection[str]], path: str | os.PathLike[str] | None = None
    ) -> None:
        self.seed: int = 0
        self._apps = apps
        self._rules: dict[int, FaultRule] = {}
        self._last = 0
        if path is not None:
            self.load(path)

    def __len__(self) -> int:
        return len(self._rules)

    def __iter__(self) -> Iterator[FaultRule]:
        return iter(list(self._rules.values()))

    def __getitem__(self, number: int) -> FaultRule:
        return self._rules[number]

    def load(self, path: str | os.PathLike[str]) -> None:
        """Replace the rules by those of a TOML file.

        Raises `OSError` if the file cannot be read, and `ValueError`, with the file's name and the
        number of the entry, for an unknown name or a wrong value. The rules then stay as they were.
        """
        name = Path(path).name
        try:
            file = table(tomllib.loads(Path(path).read_text("utf-8")), {"seed", "fault"})
            seed = convert(file, _Seeded).seed
            entries = file.get("fault", [])
            if not isinstance(entries, list):
                raise ValueError("each fault begins with [[fault]], in two brackets")
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
        rules = {}
        for number, entry in enumerate(entries, 1):
            try:
                rules[number] = self._rule(number, entry)
            except ValueError as error:
                raise ValueError(f"{name}, fault {number}: {error}") from error
        self.seed, self._rules, self._last = seed, rules, len(rules)
        self.restart()

    def add(
        self,
        fault: Fault,
        *,
        name: str = "",
        route: str | None = None,
        app: str | None = None,
        nth: int | Sequence[int] | None = None,
        every: int | None = None,
        probability: float = 1.0,
        times: int | None = None,
        enabled: bool = True,
    ) -> FaultRule:
        """Add a rule after the others. The arguments are the attributes of `FaultRule`.

        Raises `ValueError` for a wrong value.
        """
        given = {
            "name": name,
            "route": route,
            "app": app,
            "nth": nth,
            "every": every,
            "probability": probability,
            "times": times,
            "enabled": enabled,
        }
        return self._add(self._make(self._last + 1, given, fault))

    def add_entry(self, entry: Any) -> FaultRule:
        """Add a rule from data in the form of a file's entry. Raises `ValueError`."""
        return self._add(self._rule(self._last + 1, entry))

    def remove(self, number: int) -> None:
        """Remove a rule. Raises `KeyError` if there is none with this number."""
        del self._rules[number]

    def restart(self) -> None:
        """Restart the counts of all rules."""
        for rule in self:
            rule.restart(self.seed)

    def take(self, record: RequestRecord) -> Fault | None:
        """The fault that a request meets. Every rule counts it."""
        found = None
        for rule in self._rules.values():
            if rule.decide(record) and found is None:
                found = rule.fault
        return found

    def _rule(self, number: int, entry: Any) -> FaultRule:
        given = table(entry, _NAMES)
        fault = {name: given.pop(name) for name in FAULT_FIELDS.intersection(given)}
        return self._make(number, given, read_fault(fault))

    def _make(self, number: int, given: Mapping[str, Any], fault: Fault) -> FaultRule:
        conditions = convert(given, _Conditions)
        if conditions.app is not None and conditions.app not in (apps := self._apps()):
            known = ", ".join(sorted(apps))
            raise ValueError(f"app: there is no App {conditions.app!r}; there are {known}")
        return FaultRule(number, conditions, fault)

    def _add(self, rule: FaultRule) -> FaultRule:
        rule.restart(self.seed)
        self._rules[rule.number] = rule
        self._last = rule.number
        return rule


def _route(given: str | None) -> str | None:
    if given is None:
        return None
    method, _, path = given.rpartition(" ")
    if path[:1] not in ("/", "*") or not (method.isalpha() or not method):
        raise ValueError('route: a path, with or without a method before it: "POST /v1/runs"')
    return f"{method.upper()} {path}" if method else path
