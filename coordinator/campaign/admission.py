"""Admission: bytes from the log become a contribution, or a rejection with a reason. Nothing here changes any state."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from coordinator.campaign.effects import Admitted, LostPayload, Refused
from coordinator.campaign.judging.guard import Guard
from coordinator.campaign.ledger import Ledger, OpenTask, task_number
from coordinator.campaign.masked.sums import MaskedSums
from coordinator.campaign.private.privacy import Privacy
from coordinator.campaign.signers import Signers
from fl_core.aggregation import Contribution, Strategy
from fl_core.aggregation.statistics import unfit
from fl_core.codecs import codec
from fl_core.codecs.model_payload import ModelState, decode_update, max_state_bytes
from fl_core.codecs.own_codec import OwnCodec
from fl_core.errors import MissingBlob, PayloadLost, Reason, RejectedUpdate
from fl_core.secure_aggregation.bounds import MASKED
from fl_core.spec import CampaignSpec
from fl_core.vectors import Delta, Parameters, SoftLabels, Vector
from fl_core.vectors.arithmetic import norm_and_finite, peak
from fl_core.vectors.layout import Layout
from fl_core.wire.digest import has_digest
from fl_core.wire.log_entry import LogEntry
from fl_core.wire.messages import ModelUpdate
from fl_core.wire.signed import update_of

# Finite, but not for long: an adaptive server optimizer squares it, example weighting multiplies it by up to 2**53.
OVERFLOW_NORM = 1e15

FetchBlob = Callable[[str, int], memoryview]


class Admission:
    """The checks of one campaign, in the order from cheap to dear; the payload is read last.

    Args:
        campaign, spec, layout, secret: the campaign's own.
        fetch_blob: reads a payload that does not ride in the log entry.

    Attributes:
        signers: whose updates count; and ``fetch_blob``, as above.
    """

    def __init__(self, campaign: str, spec: CampaignSpec, layout: Layout, secret: bytes, fetch_blob: FetchBlob) -> None:
        self._campaign = campaign
        self._spec = spec
        self._layout = layout
        self._secret = secret
        self.fetch_blob = fetch_blob
        self.signers = Signers()
        self._codec_name = MASKED if spec.secure_aggregation.is_on else spec.codec.name
        chosen = codec(spec.codec.name, spec.codec.args)
        self._codec = OwnCodec(spec.codec.name, chosen) if ":" in spec.codec.name else chosen

    def begin_life(self, secret: bytes) -> None:
        """Task ids hang on another secret from now on."""
        self._secret = secret

    def max_payload_bytes(self, strategy: Strategy, part: int) -> int:
        """No update of that part is longer; of an unknown part, none is longer than the whole."""
        size = strategy.update_elements(part)
        weights = self._codec.max_payload_bytes(self._layout.num_parameters if size is None else size)
        return weights + (0 if strategy.sends == "soft_labels" else max_state_bytes(self._layout))

    def admit(
        self,
        entry: LogEntry,
        ledger: Ledger,
        strategy: Strategy,
        guard: Guard,
        privacy: Privacy | None = None,
        masked: MaskedSums | None = None,
    ) -> Admitted:
        """Check one update against the campaign's present state.

        Args:
            privacy: takes the place of all checks that look at values; None where the coordinator adds no noise.
            masked: sums of updates that nobody can look at; None where updates have no masks.

        Raises:
            Refused: it must not be merged; the reason says why.
            LostPayload: its payload is lost.
            BrokerUnavailable: its payload could not be read now; ask again.
        """
        update: ModelUpdate | None = None
        task: OpenTask | None = None
        try:
            update = self.signers.update(entry)  # before a task is looked for: a forgery ends nobody's
            found = self._find_task(update, ledger)
            self.signers.verify_base(update, self._secret)
            task = found  # not before: a device that was led astray may still bring the honest update
            staleness = self._check_header(update, strategy, self._spec.aggregation.max_staleness)
            if guard.is_refused(update.base_version):
                why = f"it starts from version {update.base_version}, which had diverged"
                raise RejectedUpdate(Reason.ROLLED_BACK, why)
            if privacy is not None:
                privacy.verify(update.worker, staleness, strategy.version)
            if masked is not None:
                masked.verify(update)
            try:
                payload = self._payload(update, entry)
            except PayloadLost:
                raise LostPayload(task, update.attempt, update.blob) from None
            if masked is not None:
                return Admitted(task, update, masked.contribution(update, payload, entry.header, staleness))
            if privacy is not None:
                return self._admit_privately(privacy, entry, task, update, payload, strategy, staleness)
            values, state = self._decode_payload(update, payload, strategy)
            self._check_values(values, strategy, staleness)
            self._check_state(state, strategy)
        except RejectedUpdate as error:
            raise Refused(error, task, update) from None
        return Admitted(task, update, _contribution(update, values, state, staleness))

    def _admit_privately(
        self,
        privacy: Privacy,
        entry: LogEntry,
        task: OpenTask,
        update: ModelUpdate,
        payload: memoryview | bytes,
        strategy: Strategy,
        staleness: int,
    ) -> Admitted:
        """With no look at the values: whether an update counts may not depend on the data behind it."""
        try:
            values, _ = self._decode_payload(update, payload, strategy)
        except RejectedUpdate as error:
            if error.reason is not Reason.NOT_FINITE:
                raise
            values = np.zeros(self._layout.num_parameters, np.float32)
        if not self._spec.privacy.metrics:
            update = replace(update, num_examples=1, metrics={})
        proof = privacy.evidence(entry.position, payload, update.payload_digest, staleness)
        return Admitted(task, update, _contribution(update, values, None, staleness), proof)

    def announced(self, entry: LogEntry, ledger: Ledger, strategy: Strategy) -> tuple[str, int] | None:
        """Name and size of the payload that admitting this entry may ask for; None where there is none to fetch."""
        if entry.kind != "u" or entry.payload:
            return None
        try:
            update = update_of(entry.header)
            self._find_task(update, ledger)
        except RejectedUpdate:
            return None
        fits = 0 < update.payload_bytes <= self.max_payload_bytes(strategy, update.part)
        return (update.blob, update.payload_bytes) if update.names_own_blob and fits else None

    def blob_of(self, entry: LogEntry, strategy: Strategy) -> tuple[str, int] | None:
        """Name and size of the blob that an entry names, to be dropped with it; whatever became of its update.

        What it declares is not to be trusted: no more is dropped than an update can take.
        """
        if entry.kind != "u" or entry.payload:
            return None
        try:
            update = update_of(entry.header)
        except RejectedUpdate:
            return None
        if not update.names_own_blob:
            return None
        return update.blob, min(update.payload_bytes, self.max_payload_bytes(strategy, update.part))

    def readmit(
        self, number: int, header: bytes, payload: bytes, strategy: Strategy, moment_ms: int
    ) -> tuple[ModelUpdate, Contribution]:
        """Check an update that an operator took out of quarantine: its age and its norm are theirs to judge.

        Args:
            number: of the task that it answered.
            header, payload: of its entry.
            strategy: as it stands now.
            moment_ms: when it was readmitted.

        Raises:
            RejectedUpdate: it cannot be merged all the same.
        """
        update = self.signers.readmitted(header, moment_ms)
        self.signers.verify_base(update, self._secret)
        staleness = self._check_header(update, strategy, max_staleness=None)
        if self.signers.authority and not has_digest(payload, update.payload_digest):
            raise RejectedUpdate(Reason.WRONG_DIGEST, "its payload does not have its digest: somebody has changed it")
        values, state = self._decode_payload(update, payload, strategy)
        self._check_state(state, strategy)
        if not norm_and_finite(values) <= OVERFLOW_NORM:
            raise RejectedUpdate(Reason.NOT_FINITE, "it holds NaN, infinite or overflowing values")
        if task_number(self._secret, update.task_id) != number:
            raise RejectedUpdate(Reason.UNKNOWN_TASK, f"it is none of task {number}: it is from an earlier life")
        return update, _contribution(update, values, state, staleness)

    def _find_task(self, update: ModelUpdate, ledger: Ledger) -> OpenTask:
        if update.campaign != self._campaign:
            raise RejectedUpdate(Reason.WRONG_CAMPAIGN, f"it is for campaign {update.campaign!r}")
        number = task_number(self._secret, update.task_id)
        if number is None:
            raise RejectedUpdate(Reason.UNKNOWN_TASK, f"task id {update.task_id!r} was never given out")
        task = ledger.open.get(number)
        if task is None:
            raise RejectedUpdate(*ledger.why_closed(number))
        if update.attempt > task.attempt:
            raise RejectedUpdate(Reason.UNKNOWN_TASK, f"attempt {update.attempt} of task {number} was never issued")
        return task

    def _check_header(self, update: ModelUpdate, strategy: Strategy, max_staleness: int | None) -> int:
        if update.layout_digest != self._layout.digest:
            raise RejectedUpdate(
                Reason.WRONG_LAYOUT,
                f"the device's model has layout {update.layout_digest}, the campaign's {self._layout.digest}; "
                "install the same model code on both",
            )
        if update.sends != strategy.sends or update.codec != self._codec_name:
            why = f"it sends {update.sends} as {update.codec}, which was not asked for"
            raise RejectedUpdate(Reason.MALFORMED, why)
        self._num_elements(update, strategy)  # of an unknown part there is no update
        limit = self.max_payload_bytes(strategy, update.part)
        if update.payload_bytes > limit:
            raise RejectedUpdate(
                Reason.MALFORMED, f"it declares {update.payload_bytes} bytes, at most {limit} are possible"
            )
        if update.base_version > strategy.version:
            raise RejectedUpdate(
                Reason.FUTURE_VERSION, f"it starts from version {update.base_version}, the newest is {strategy.version}"
            )
        staleness = strategy.version - update.base_version
        if strategy.barrier:
            max_staleness = 0  # a cohort starts from the newest version; nobody honest has another
        if max_staleness is not None and staleness > max_staleness:
            raise RejectedUpdate(Reason.TOO_STALE, f"its staleness is {staleness}, the bound is {max_staleness}")
        return staleness

    def _num_elements(self, update: ModelUpdate, strategy: Strategy) -> int:
        size = strategy.update_elements(update.part)
        if size is None:
            raise RejectedUpdate(Reason.MALFORMED, f"it brings part {update.part} of the model, which is none")
        return size

    def _payload(self, update: ModelUpdate, entry: LogEntry) -> memoryview | bytes:
        payload: memoryview | bytes = entry.payload
        if update.blob:
            if not update.names_own_blob:
                raise RejectedUpdate(Reason.MALFORMED, f"blob {update.blob!r} is not this task's")
            try:
                payload = self.fetch_blob(update.blob, update.payload_bytes)
            except MissingBlob:
                raise RejectedUpdate(Reason.MISSING_PAYLOAD, f"blob {update.blob!r} is not there") from None
        if len(payload) != update.payload_bytes:
            raise RejectedUpdate(
                Reason.MALFORMED, f"it declares {update.payload_bytes} bytes and brings {len(payload)}"
            )
        if not has_digest(payload, update.payload_digest):
            raise RejectedUpdate(Reason.WRONG_DIGEST, "its payload does not have its digest; it was damaged on the way")
        return payload

    def _decode_payload(
        self, update: ModelUpdate, payload: memoryview | bytes, strategy: Strategy
    ) -> tuple[Vector, ModelState | None]:
        size = self._num_elements(update, strategy)
        if strategy.sends == "soft_labels":  # they come without
            return self._codec.decode(payload, size), None
        return decode_update(self._codec, self._layout, payload, size)

    def _check_state(self, state: ModelState | None, strategy: Strategy) -> None:
        if state is not None and (why := unfit(self._layout, state, strategy.parameters.values)) is not None:
            raise RejectedUpdate(Reason.NOT_FINITE, f"{why}; lower the learning rate on the device")

    def _check_values(self, values: Vector, strategy: Strategy, staleness: int) -> None:
        highest = peak(values)
        if not math.isfinite(highest):
            raise RejectedUpdate(
                Reason.NOT_FINITE, "it holds NaN or infinite values; lower the learning rate on the device"
            )
        # The peak bounds the norm and is found in half the time; the norm itself is only asked for where it can matter.
        if highest * math.sqrt(values.size) > OVERFLOW_NORM and (norm := norm_and_finite(values)) > OVERFLOW_NORM:
            raise RejectedUpdate(Reason.NORM_EXCEEDED, f"its norm is {norm:.4g}; merged, it would overflow float32")
        bound = self._spec.aggregation.max_update_norm
        if bound is None:
            return
        base = strategy.base_weights(staleness) if strategy.sends == "parameters" else None
        if (norm := norm_and_finite(values, minus=base)) > bound:
            raise RejectedUpdate(
                Reason.NORM_EXCEEDED, f"its norm is {norm:.4g}, aggregation.max_update_norm is {bound:g}"
            )


_VECTORS: dict[str, type[Delta] | type[Parameters] | type[SoftLabels]] = {
    "delta": Delta,
    "parameters": Parameters,
    "soft_labels": SoftLabels,
}


def _contribution(update: ModelUpdate, values: Vector, state: ModelState | None, staleness: int) -> Contribution:
    vector = _VECTORS[update.sends](values)
    return Contribution(vector, update.num_examples, staleness, update.worker, update.metrics, update.part, state)
