"""The options that a call, a client or its view sets, and the resulting options of a request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, TypedDict

from msgspec import Struct, structs

from dynamiq_async._http.outage import Outage
from dynamiq_async._http.retry import RetryPolicy
from dynamiq_async.options import DEFAULT_TIMEOUT, Timeout, as_timeout, check_count


class Unset:
    """The type of `UNSET`."""

    def __repr__(self) -> str:
        return "<not given>"


UNSET = Unset()
"""The default of an argument where None means something."""

TimeoutLike = Timeout | float | None | Unset


class CallOptions(TypedDict, total=False):
    """The arguments of every call: `timeout` and `max_retries`, instead of the client's."""

    timeout: TimeoutLike
    max_retries: int | None


class SendingOptions(CallOptions, total=False):
    """The arguments of every call that sends something: additions to the request."""

    extra_body: Mapping[str, Any] | None
    extra_headers: Mapping[str, str] | None
    extra_query: Mapping[str, Any] | None


class RequestOptions(NamedTuple):
    """The options that one call overrides, and its additions to the request.

    `retry` is None for the usual rule: a GET, PUT or DELETE may be repeated, a POST only when the
    server certainly did not take it.
    """

    timeout: TimeoutLike = UNSET
    max_retries: int | None = None
    retry: bool | None = None
    headers: Mapping[str, str] | None = None
    query: Mapping[str, Any] | None = None


class SendOptions(Struct, frozen=True):
    """The options with which the sender sends a request.

    Attributes:
        timeout: the time limits.
        policy: how often and how patiently a request is repeated.
        queued: this is one of many calls. Time that it waits for a slot, or because the server
            asked to slow down, does not count towards its limits.
        outage: where it waits while no connection can be made; None: it raises.
    """

    timeout: Timeout = DEFAULT_TIMEOUT
    policy: RetryPolicy = RetryPolicy()
    queued: bool = False
    outage: Outage | None = None

    def with_timeout(self, timeout: TimeoutLike) -> SendOptions:
        """The same options with another timeout; unchanged where none is given."""
        if isinstance(timeout, Unset):
            return self
        return structs.replace(self, timeout=as_timeout(timeout, self.timeout))

    def with_total(self, seconds: float | None) -> SendOptions:
        """The same options with another limit for the whole call."""
        return structs.replace(self, timeout=structs.replace(self.timeout, total=seconds))

    def with_policy(self, **changed: Any) -> SendOptions:
        """The same options with another policy for retries."""
        return structs.replace(self, policy=structs.replace(self.policy, **changed))

    def for_many(self, outage: Outage | None = None) -> SendOptions:
        """The same options for one of many calls, with `queued`: it waits as long as needed."""
        options = self.with_policy(patient=True)
        timeout = structs.replace(options.timeout, pool=None)
        return structs.replace(options, timeout=timeout, queued=True, outage=outage)

    def for_call(self, given: RequestOptions) -> SendOptions:
        """The same options, overridden by those of one call.

        Raises:
            InvalidArgumentError: an argument cannot be used.
        """
        options = self.with_timeout(given.timeout)
        if given.retry is False:  # no repetition, not even when the server asks to come back
            return options.with_policy(max_retries=0, patient=False)
        if given.max_retries is not None:
            max_retries = check_count(given.max_retries, "max_retries", least=0)
            return options.with_policy(max_retries=max_retries)
        return options
