"""Keepers' answers, as they stand in the log: masks come off a sum, or a keeper says that it will not tell them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from coordinator.campaign.effects import Effects
from coordinator.campaign.masked.sums import MaskedSums, announced_sum
from fl_core.errors import MissingBlob, PayloadLost, Reason, RejectedUpdate
from fl_core.secure_aggregation.masked_sum import MaskedSum
from fl_core.secure_aggregation.orders import Answer
from fl_core.wire.digest import has_digest
from fl_core.wire.log_entry import LogEntry

if TYPE_CHECKING:
    from coordinator.campaign.admission import Admission
    from coordinator.campaign.course import Course
    from coordinator.campaign.merging import Merging


class Answers:
    """Takes them in.

    An answer that is nobody's, comes late, or brings a payload that is not there changes nothing: the coordinator asks
    again, as long as masks are missing.

    Args:
        admission: knows whose answers count, and reads payloads.
        merging, course: the campaign's.
    """

    def __init__(self, admission: Admission, merging: Merging, course: Course) -> None:
        self._admission = admission
        self._merging = merging
        self._course = course

    def take(self, entry: LogEntry, effects: Effects) -> None:
        """Take one in.

        Raises:
            BrokerUnavailable: its payload could not be read; nothing has changed.
        """
        effects.blob = announced_sum(entry, self._num_elements)
        masked = self._merging.masked
        try:
            answer = self._admission.signers.answer(entry)
        except RejectedUpdate as error:
            effects.unopened = f"an answer in a keeper's name is not taken: {error.detail}"
            return
        waiting = None if masked is None or not self._course.accepts else masked.find(answer.order)
        if masked is None or waiting is None or answer.keeper not in waiting.terms.keepers:
            return
        if answer.refused:
            self._refuse(masked, waiting, answer, effects)
        elif self._take_off(waiting, answer, entry):
            self._merging.merge_open(masked, effects)
            self._course.check_limits(effects)
        else:
            effects.unopened = (
                f"{answer.keeper} has answered with what is no sum of masks, or with too much; asking again"
            )

    @property
    def _num_elements(self) -> int:
        masked = self._merging.masked
        return 0 if masked is None else masked.filling.terms.num_elements

    def _take_off(self, waiting: MaskedSum, answer: Answer, entry: LogEntry) -> bool:
        if not set(answer.seeds) <= set(waiting.terms.held_by(answer.keeper)):
            return False
        if not set(answer.seeds) <= waiting.missing:
            return True  # somebody else was quicker
        num_bytes = 4 * waiting.terms.num_elements
        payload: memoryview | bytes = entry.payload
        if answer.blob and answer.payload_bytes == num_bytes:
            try:
                payload = self._admission.fetch_blob(answer.blob, num_bytes)
            except (MissingBlob, PayloadLost):
                return False
        if len(payload) != num_bytes or not has_digest(payload, answer.payload_digest):
            return False
        return waiting.take(answer.seeds, np.frombuffer(payload, "<u4").astype(np.uint32, copy=False))

    def _refuse(self, masked: MaskedSums, waiting: MaskedSum, answer: Answer, effects: Effects) -> None:
        waiting.refused_by.add(answer.keeper)
        said = f"{answer.keeper} does not tell the masks of a sum: {answer.refused}"
        if waiting.is_hopeless:
            self._merging.give_up(masked, waiting, Reason.NOT_OPENED, f"nobody may open a sum. {said}", effects)
            self._merging.merge_open(masked, effects)
        else:
            effects.unopened = said
