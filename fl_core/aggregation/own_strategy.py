"""A strategy of the user's own, between the coordinator and the user's code.

Its methods were compared with the base class's when its class was made. When it is built, its members are checked, and
its state is exported and restored once, so that what cannot work is refused before a campaign begins. While it runs,
any exception that it raises becomes one sentence, and its results are checked where that is cheap, since the ledger
relies on them.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, get_args

import msgpack
import numpy as np
import numpy.typing as npt

from fl_core.aggregation.contribution import Contribution
from fl_core.aggregation.strategy import Merge, Strategy, Tensors
from fl_core.errors import CampaignError, SpecError, UserCodeError
from fl_core.user_code import RAISED, describe, log_traceback, raised
from fl_core.vectors import FloatArray, Parameters, Sends
from fl_core.vectors.layout import Layout

KEY = "aggregation.strategy"
KEPT_DTYPES = frozenset(
    ("float64", "float32", "float16", "bool", "int64", "int32", "int16", "int8", "uint64", "uint32", "uint16", "uint8")
)
"""The dtypes that a checkpoint keeps."""

T = TypeVar("T")


class OwnStrategy(Strategy):
    """A strategy around another one that is not trusted to be right.

    Args:
        path: its import path.
        strategy: as it was built.
        layout: the model's.

    Attributes:
        version, parameters, buffer_count: as they stood after the last call.

    Raises:
        SpecError: a member has another form.
    """

    def __init__(self, path: str, strategy: Strategy, layout: Layout) -> None:
        # Not the base class's: there is nothing to copy, the parameters are the other strategy's.
        self._path = path
        self._strategy = strategy
        self.layout = layout
        self._waiting = 0
        try:
            self._read()
            self.sends, self.one_vote_each = strategy.sends, strategy.one_vote_each
            barrier: Any = strategy.barrier
            held: Any = strategy.held_vectors
        except RAISED as error:
            log_traceback(KEY, path, error)
            kind = type(strategy).__name__
            raise SpecError(
                f"{KEY} = {path!r}: reading the members of a {kind} raised {describe(error, path)}."
            ) from error
        if self.sends not in get_args(Sends):
            self._refuse(f"sends = {self.sends!r}; it is one of {', '.join(map(repr, get_args(Sends)))}")
        if type(barrier) is not bool:
            self._refuse(f"barrier = {barrier!r}; it is True or False")
        if type(held) is not int or held < 0:
            self._refuse(f"held_vectors = {held!r}; it is a number of vectors")
        self.barrier, self.held_vectors = barrier, held
        if (self.version, self.buffer_count) != (0, 0):
            self._refuse(f"version = {self.version!r} and buffer_count = {self.buffer_count!r}; both begin at 0")
        if wrong := self._wrong_parameters():
            self._refuse(wrong)
        self._try_its_state()

    def _refuse(self, what: str) -> None:
        raise SpecError(f"{KEY} = {self._path!r} gave a {type(self._strategy).__name__} with {what}.")

    def _look(self) -> None:
        """Read what the campaign reads: a property of the user's may raise, and only here."""
        try:
            self._read()
        except RAISED as error:
            raise raised(KEY, self._path, "reading version, parameters or buffer_count", error) from error

    def _read(self) -> None:
        self.version = int(self._strategy.version)
        self.parameters = self._strategy.parameters
        self._waiting = int(self._strategy.buffer_count)

    def _wrong_parameters(self) -> str:
        parameters: Any = self.parameters
        if not isinstance(parameters, Parameters):
            return f"parameters of type {type(parameters).__name__}; they are fedtide.Parameters"
        values, size = parameters.vector, self.layout.num_elements
        if not isinstance(values, np.ndarray) or values.dtype != np.float32 or values.shape != (size,):
            form = (
                f"{values.dtype} of shape {values.shape}" if isinstance(values, np.ndarray) else type(values).__name__
            )
            return f"parameters that are {form}; they are float32 of shape ({size},)"
        return "" if values.flags.carray else "parameters that are not contiguous or not writable; keep them so"

    def _try_its_state(self) -> None:
        """A checkpoint that cannot be written or read would be found out too late."""
        try:
            exported = self._strategy.export_state()
            if wrong := _wrong_state(exported):
                self._refuse(f"an export_state() that {wrong}")
            tensors, meta = exported
            copies = {name: np.array(array) for name, array in tensors.items()}
            self._strategy.restore_state(copies, msgpack.unpackb(msgpack.packb(meta), strict_map_key=False))
        except SpecError:
            raise
        except RAISED as error:
            log_traceback(KEY, self._path, error)
            raise SpecError(
                f"{KEY} = {self._path!r}: what export_state() gives at version 0 cannot be had or be given to "
                f"restore_state(): {describe(error, self._path)}; it is (arrays by name, plain values)."
            ) from error

    # -- what the coordinator asks for -----------------------------------------------------------------------------

    @property
    def buffer_count(self) -> int:
        """How many updates wait for a merge."""
        return self._waiting

    @property
    def waits_for(self) -> str:
        """What a full buffer still lacks; empty too where the strategy cannot say."""
        try:
            return str(self._strategy.waits_for)
        except RAISED:
            return ""

    def update_elements(self, part: int) -> int | None:
        """How many elements an update of a part has; None for an unknown part.

        An update names its part; one that the strategy does not know is an unknown part like any other.
        """
        try:
            size = self._strategy.update_elements(part)
        except RAISED:
            return None
        return size if type(size) is int and size >= 0 else None

    def base_weights(self, staleness: int) -> FloatArray:
        """From which an update of parameters is measured.

        Raises:
            UserCodeError: the strategy raised, or gave no such vector.
        """
        base = self._call("base_weights(staleness)", self._strategy.base_weights, staleness)
        shape = (self.layout.num_parameters,)
        if not (isinstance(base, np.ndarray) and base.dtype == np.float32 and base.shape == shape):
            raise self._wrong("base_weights(staleness)", f"it gave no float32 array of shape {shape}")
        return base

    def slow(self, factor: float) -> None:
        """Take shorter steps from now on.

        Raises:
            UserCodeError: the strategy raised.
        """
        self._call("slow(factor)", self._strategy.slow, factor)

    def offer(self, contribution: Contribution) -> Merge | None:
        """Take one update in.

        Raises:
            UserCodeError: the strategy raised, or what it gave back does not add up.
        """
        values = contribution.values.vector
        if isinstance(values, np.ndarray) and values.flags.writeable:  # the payload's memory is not its own
            values = values.view()
            values.flags.writeable = False
            contribution = dataclasses.replace(contribution, values=type(contribution.values)(values))
        version, waiting = self.version, self.buffer_count
        merge = self._call("offer(contribution)", self._strategy.offer, contribution)
        return self._checked("offer(contribution)", merge, version, waiting + 1)

    def flush(self, share: float = 1.0) -> Merge | None:
        """Merge what waits.

        Raises:
            UserCodeError: the strategy raised, or what it gave back does not add up.
        """
        version, waiting = self.version, self.buffer_count
        merge = self._checked("flush(share)", self._call("flush(share)", self._strategy.flush, share), version, waiting)
        if merge is None and waiting and not self.waits_for:
            raise self._wrong("flush(share)", f"it merged nothing while {waiting} updates wait")
        return merge

    def _checked(self, call: str, merge: Merge | Any | None, version: int, waiting: int) -> Merge | None:
        """The merge, in plain numbers; ``waiting`` updates were there for it."""
        self._look()
        left = self.buffer_count
        if merge is None:
            if (self.version, left) != (version, waiting):
                raise self._wrong(
                    call,
                    f"it gave None, so version {version} stays and {waiting} updates wait; version is "
                    f"{self.version!r} and buffer_count {left!r}",
                )
            return None
        if not isinstance(merge, Merge):
            raise self._wrong(call, f"it gave a {type(merge).__name__}, neither a Merge nor None")
        try:
            merge = Merge(
                int(merge.version),
                int(merge.num_updates),
                tuple(int(value) for value in merge.staleness),
                tuple(float(weight) for weight in merge.weights),
            )
        except (TypeError, ValueError) as error:
            raise self._wrong(call, f"its Merge holds no numbers: {error}") from None
        if not version + 1 == merge.version == self.version:
            raise self._wrong(
                call, f"its Merge made version {merge.version} of {version}, and version is {self.version!r}"
            )
        if merge.num_updates < 1 or merge.num_updates != waiting - left:
            raise self._wrong(
                call,
                f"its Merge counts {merge.num_updates} of {waiting} updates, and buffer_count is {left!r} after it",
            )
        if not len(merge.staleness) == len(merge.weights) == merge.num_updates:
            raise self._wrong(
                call, f"its Merge of {merge.num_updates} updates has not one staleness and weight for each"
            )
        if not all(map(math.isfinite, merge.weights)):
            raise self._wrong(call, "its Merge has a weight that is not finite")
        if wrong := self._wrong_parameters():
            raise self._wrong(call, f"it left {wrong}")
        return merge

    def export_state(self) -> tuple[Tensors, dict[str, Any]]:
        """All state.

        Raises:
            UserCodeError: the strategy raised, or gave what no checkpoint can hold.
        """
        exported = self._call("export_state()", self._strategy.export_state)
        if wrong := _wrong_state(exported):
            raise self._wrong("export_state()", f"it {wrong}")
        return exported

    def restore_state(self, tensors: Mapping[str, npt.NDArray[Any]], meta: Mapping[str, Any]) -> None:
        """Go on where ``export_state`` stood.

        Raises:
            CampaignError: the state is of another strategy or another model.
            UserCodeError: the strategy raised anything else, or stands at another version.
        """
        call = "restore_state(tensors, meta)"
        try:
            self._strategy.restore_state(tensors, meta)
        except CampaignError:
            raise
        except RAISED as error:
            raise raised(KEY, self._path, call, error) from error
        self._look()
        if self.version != meta["version"]:
            raise self._wrong(call, f"it stands at version {self.version!r}, the state is of {meta['version']}")
        if wrong := self._wrong_parameters():
            raise self._wrong(call, f"it left {wrong}")

    def _call(self, name: str, method: Callable[..., T], *arguments: Any) -> T:
        try:
            return method(*arguments)
        except RAISED as error:
            raise raised(KEY, self._path, name, error) from error

    def _wrong(self, call: str, what: str) -> UserCodeError:
        return UserCodeError(f"{KEY} = {self._path!r}, {call}: {what}; mend it and go on with --resume.")


def _wrong_state(exported: Any) -> str:
    """What no checkpoint can hold of an exported state; empty if it can."""
    if not (isinstance(exported, tuple) and len(exported) == 2 and all(isinstance(half, dict) for half in exported)):
        return f"gave a {type(exported).__name__}, not two dictionaries: arrays by name, and plain values"
    tensors, meta = exported
    for name, array in tensors.items():
        if not (isinstance(name, str) and isinstance(array, np.ndarray) and array.dtype.name in KEPT_DTYPES):
            kind = array.dtype if isinstance(array, np.ndarray) else type(array).__name__
            return f"gave {name!r:.80} as {kind}; it is an array of numbers"
    if "version" not in meta:
        return "gave no 'version' among the plain values"
    try:
        msgpack.packb(meta)
    except (TypeError, ValueError, OverflowError) as error:
        return f"gave values that are not plain ({error}); use Python's own numbers, text, lists and dictionaries"
    return ""
