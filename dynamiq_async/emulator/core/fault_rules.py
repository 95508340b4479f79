"""Faults by rules: which of the requests that match a rule meet its fault.

A rule counts the requests that match it, from 1, and decides about each by its number alone. So the
same rules with the same seed decide alike every time, whatever else happens between the requests
and whichever fault such a request meets in the end. (Where clients call at once, it is the order in
which their requests are complete that may differ.)

As a file:

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
        number: of its entry in the file, from 1; those added later go on from there.
        fault: what happens.
        name: for people.
        route: the path within the App, with wildcards, and optionally a method before it, as
            `Emulator.script` takes it: "POST /v1/runs"; None: any.
        app: the name of the App; None: any, and the other services too.
        nth: which of the matching requests: the third is 3, or several, `[1, 3]`.
        every: each such one: 5 is the fifth, the tenth and so on.
        probability: that such a request meets the fault, from 0 to 1.
        times: how many do at most.
        seen: how many requests matched since the rule was switched on.
        met: for how many of them it decided that they meet the fault. A request meets the fault of
            the first rule that decides so; the others have counted it all the same.
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
        """Whether it is switched on. One that is switched on counts anew."""
        return self._enabled

    @enabled.setter
    def enabled(self, on: bool) -> None:
        if on and not self._enabled:
            self.restart(self._seed)
        self._enabled = on

    def restart(self, seed: int) -> None:
        """Count anew, and draw the same numbers again."""
        self.seen = self.met = 0
        self._seed = seed
        self._random = Random(f"{seed}/{self.number}")  # noqa: S311 - it is to be repeatable

    def decide(self, record: RequestRecord) -> bool:
        """Count a request, if it matches, and decide whether it meets the fault."""
        if not self._enabled or not self._matches(record):
            return False
        self.seen += 1
        # Drawn for each, so that the n-th request has the n-th number.
        acts = self._random.random() < self.probability and self._is_its_turn()
        self.met += acts
        return acts

    def public(self) -> dict[str, Any]:
        """The rule as an entry of a file has it, with its number, and how far it has counted."""
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
        apps: gives the names of the Apps that there are.
        path: a file to load (see `load`).

    Attributes:
        seed: of all probabilities.
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
        """Have the rules of a TOML file in place of those there are.

        Raises `OSError` where it cannot be read, and `ValueError`, with the file's name and the
        number of the entry, for a name that is not known and for a value that is wrong; then
        everything stays as it was.
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
        """Add a rule behind the others. The arguments are the attributes of `FaultRule`.

        Raises `ValueError` for a value that is wrong.
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
        """Add a rule that is given as an entry of a file is. Raises `ValueError`."""
        return self._add(self._rule(self._last + 1, entry))

    def remove(self, number: int) -> None:
        """Remove a rule. Raises `KeyError` if there is none with this number."""
        del self._rules[number]

    def restart(self) -> None:
        """Have every rule count anew."""
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
