"""The inputs of a batch, each with a key: read one at a time, when a worker is free.

Whatever the inputs are, no more of them are held than are under way. An input whose key cannot be
made, or was used before, is still an item, with an error: no input may get lost.
"""

from __future__ import annotations

import inspect
from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Callable,
    Iterable,
    Iterator,
    Mapping,
    Sized,
)
from contextlib import suppress
from typing import Any, Protocol, cast

from msgspec import Struct

from dynamiq_async._scalars import plain
from dynamiq_async.batch.frames import FrameRows, is_frame
from dynamiq_async.batch.models import Key
from dynamiq_async.batch.shards import Shard, part_of
from dynamiq_async.errors import InvalidArgumentError
from dynamiq_async.options import check_count


class Frame(Protocol):
    """An object that exports its columns as an Arrow C stream, as frames of polars or pandas do."""

    def __arrow_c_stream__(self, requested_schema: Any = None, /) -> object:
        """Its columns."""


Inputs = Iterable[Any] | AsyncIterable[Any] | Frame
KeyOf = Callable[[Any], Key] | str | None

REMEMBERED_KEYS = 100_000
"""At least this many of the latest keys are remembered, to notice a key that comes twice."""


class Item(Struct):
    """An input to be called, or the error that prevents its call."""

    index: int
    key: Key
    input: Any
    error: Exception | None = None
    place: int = 0


class Items:
    """The items of one job.

    Args:
        inputs: any iterable or async iterable, or a frame.
        key: a function of an input, or the name of a field; None for the index.
        shard: the part of the inputs to work on; None for all.
        texts: whether 1 and "1" are the same key, as they are in a journal.
        total: the number of inputs, if the caller gives it.

    Attributes:
        total: the number of inputs, where it is known; corrected at their end.
        waits: whether the next item has to be awaited: then call `wait`, else `take`.
        failure: the error that the inputs' own iterator raised, which ends them.

    Raises:
        InvalidArgumentError: `inputs`, `key` or `shard` has a wrong type.
    """

    def __init__(
        self,
        inputs: Inputs,
        key: KeyOf,
        *,
        shard: Shard | None = None,
        texts: bool = False,
        total: int | None = None,
    ) -> None:
        _check(inputs, key)
        self._is_ours = None if shard is None else part_of(shard)
        self._texts = texts
        self._is_default = key is None and shard is None
        self._inputs: Any = FrameRows(inputs) if is_frame(inputs) else inputs
        self.total = total
        if total is not None:
            check_count(total, "total", least=0)
        elif shard is None:
            self.total = _length(self._inputs)
        self.waits: bool = isinstance(inputs, AsyncIterable)
        self.failure: BaseException | None = None
        self._key_of = _field(key) if isinstance(key, str) else key
        self._keys = _Remembered()
        self._count = self._placed = 0
        self._iterator: Iterator[Any] = iter(())
        self._async_iterator: AsyncIterator[Any] | None = None

    def start(self) -> None:
        """Begin to read. Raises what the inputs raise."""
        inputs, self._inputs = self._inputs, ()
        if isinstance(inputs, AsyncIterable):
            self._async_iterator = aiter(inputs)
        else:
            self._iterator = iter(inputs)

    def take(self) -> Item | None:
        """The next item; None at the end."""
        while True:
            try:
                input = next(self._iterator)
            except StopIteration:
                self._correct_total()
                return None
            except Exception as error:  # noqa: BLE001 - of the caller's iterator; raised later
                self.failure = error
                return None
            if (item := self._item(input)) is not None:
                return item

    async def wait(self) -> Item | None:
        """The next item of an async iterable; None at the end. The same task must call this and
        `aclose`, because a cancel scope inside the iterable belongs to its task."""
        assert self._async_iterator is not None  # noqa: S101 - `waits` says so
        while True:
            try:
                input = await anext(self._async_iterator)
            except StopAsyncIteration:
                self._correct_total()
                return None
            except Exception as error:  # noqa: BLE001 - the same
                self.failure = error
                return None
            if (item := self._item(input)) is not None:
                return item

    def _correct_total(self) -> None:
        if self.total is not None:
            self.total = self._placed

    async def aclose(self) -> None:
        """Release the inputs. An async generator is closed, so that its clean-up runs."""
        self._iterator = iter(())
        iterator, self._async_iterator = self._async_iterator, None
        if inspect.isasyncgen(iterator):
            await iterator.aclose()

    def _item(self, input: Any) -> Item | None:
        """The item of an input; None where it belongs to another shard."""
        index = self._count
        self._count = index + 1
        if self._is_default:
            self._placed = index + 1
            return Item(index, index, input, None, index)
        key, error = self._key(index, input)
        if self._is_ours is not None and not self._is_ours(key):
            return None
        place = self._placed
        self._placed = place + 1
        if error is None and self._key_of is not None:
            known = str(key) if self._texts else key
            error = None if self._keys.add(known) else _twice(index, key)
        return Item(index, key, input, error, place)

    def _key(self, index: int, input: Any) -> tuple[Key, Exception | None]:
        if self._key_of is None:
            return index, None
        try:
            key = self._key_of(input)
            if type(key) is not str and type(key) is not int:
                key = _plain_key(index, key)
        except Exception as error:  # noqa: BLE001 - of the caller's function; this item fails
            return index, error
        return key, None


class _Remembered:
    """The keys seen lately, in bounded memory."""

    def __init__(self) -> None:
        self._recent: set[Key] = set()
        self._before: set[Key] = set()

    def add(self, key: Key) -> bool:
        """Whether `key` is new, as far as is known."""
        if key in self._recent or key in self._before:
            return False
        if len(self._recent) >= REMEMBERED_KEYS:
            self._recent, self._before = set(), self._recent
        self._recent.add(key)
        return True


def _length(inputs: object) -> int | None:
    try:
        return len(inputs) if isinstance(inputs, Sized) else None
    except TypeError:  # an object with `__len__` may not know its length
        return None


def _field(name: str) -> Callable[[Any], Key]:
    def key_of(input: Any) -> Key:
        try:
            key: Key = input[name] if isinstance(input, Mapping) else getattr(input, name)
        except (KeyError, AttributeError) as error:
            raise InvalidArgumentError(
                f"there is no {name!r} in an input to take its key from", argument="key"
            ) from error
        return key

    return key_of


def _plain_key(index: int, given: object) -> Key:
    """A key of another library's type, or of a subclass, as a builtin string or integer.

    Raises:
        InvalidArgumentError: it is neither.
    """
    with suppress(ValueError):  # an infinity
        key: object = given if isinstance(given, bool) else plain(given)
        whole = isinstance(key, int) and not isinstance(key, bool)
        if isinstance(key, str) or whole:
            return cast("Key", key)
    raise InvalidArgumentError(
        f"the key of input {index} must be a string or an integer, not {given!r}", argument="key"
    )


def _twice(index: int, key: Key) -> InvalidArgumentError:
    return InvalidArgumentError(
        f"the key {key!r} of input {index} is that of an earlier input; it was not sent",
        argument="key",
    )


def _check(inputs: object, key: object) -> None:
    one = isinstance(inputs, str | bytes | Mapping)
    many = isinstance(inputs, Iterable | AsyncIterable) or hasattr(type(inputs), "__getitem__")
    many = many or is_frame(inputs)
    if one or not many:
        raise InvalidArgumentError(
            "inputs must be an iterable or async iterable of inputs, such as a list of mappings, "
            f"not one {type(inputs).__name__}",
            argument="inputs",
        )
    if not (key is None or isinstance(key, str) or callable(key)):
        raise InvalidArgumentError(
            f"key must be a function of an input or the name of a field, not {key!r}",
            argument="key",
        )
