"""Every error that fedtide raises on purpose, grouped by who has to act.

::

    FedtideError
    ├── SpecError            the author of a spec, a flag or a data factory: fix it, start again (exit code 2)
    │   ├── LayoutError      the model built here has other tensors than the campaign's
    │   └── DataError        the device's data is missing, empty or of the wrong form
    ├── UserCodeError        the author of code that the spec names: mend it, go on with --resume (exit code 2)
    ├── UntrustedError       the authority of a federation, or somebody who poses as a part of it
    ├── RejectedUpdate       the sender of one update: counted by ``reason``, parked, never retried
    ├── BrokerError          the broker's operator
    │   ├── BrokerUnavailable    nobody: it is away; retried with back-off, the log says since when
    │   │   └── BrokerRefused    it answers, and does not let this user in or do this: logged, and waited for as well
    │   └── BrokerUnfit          what is there is not what fedtide needs: waiting would not help
    ├── CampaignError        the operator: unknown campaign, illegal transition, lost checkpoint
    │   └── FencedOut        this coordinator lost its lease and must not write any more
    ├── WorkerFailed         this device's owner: a part of its worker ended and cannot be started again
    ├── BudgetSpent          this device's owner: it may not give more away; its tasks go to others
    ├── TrainingStopped      nobody: the task was cancelled or the worker is stopping; its work is dropped
    └── InvariantError       us: a bug in fedtide, please report it

A message is one sentence that names the thing, its value and the remedy.
"""

from __future__ import annotations

from enum import StrEnum


class FedtideError(Exception):
    """The root: ``except FedtideError`` catches all that fedtide raises on purpose."""


class SpecError(FedtideError):
    """A spec, a flag or an environment variable is wrong; nothing was started."""


class LayoutError(SpecError):
    """A model's tensors (names, shapes, dtypes) differ from the campaign's layout."""


class DataError(SpecError):
    """A data factory failed, or what it returned cannot be trained on."""


class UserCodeError(FedtideError):
    """Code that the spec names (a strategy, a codec, a loss, ...) raised, or gave what cannot be used."""


class UntrustedError(FedtideError):
    """A certificate, a signature or a list is not what an authority or its holder made."""


class Reason(StrEnum):
    """Why an update was not merged. The value is the label in counts, logs and metrics."""

    MALFORMED = "malformed"
    WRONG_CAMPAIGN = "wrong_campaign"
    UNKNOWN_TASK = "unknown_task"
    DUPLICATE = "duplicate"
    WRONG_LAYOUT = "wrong_layout"
    WRONG_DIGEST = "wrong_digest"
    MISSING_PAYLOAD = "missing_payload"
    FUTURE_VERSION = "future_version"
    NOT_FINITE = "not_finite"
    NORM_EXCEEDED = "norm_exceeded"
    ROLLED_BACK = "rolled_back"
    TOO_STALE = "too_stale"
    TASK_CLOSED = "task_closed"
    TRAINING_FAILED = "training_failed"
    BAD_SIGNATURE = "bad_signature"
    UNKNOWN_WORKER = "unknown_worker"
    REVOKED = "revoked"
    RESTING = "resting"
    BUDGET_SPENT = "budget_spent"
    WRONG_BASE = "wrong_base"
    NOT_OPENED = "not_opened"


UNTRUSTED = frozenset({Reason.BAD_SIGNATURE, Reason.UNKNOWN_WORKER, Reason.REVOKED})
"""Of what was not signed by its sender, or by one who is no member any more. It ends no task."""


class RejectedUpdate(FedtideError):
    """One update is refused. The campaign goes on; the update is counted and parked.

    Attributes:
        reason: which check failed.
        signer: whose certificate was beside it, where its signature is what is wrong; empty where there is none.
    """

    def __init__(self, reason: Reason, detail: str, signer: str = "") -> None:
        super().__init__(f"{reason.value}: {detail}")
        self.reason = reason
        self.detail = detail
        self.signer = signer


class BrokerError(FedtideError):
    """The broker did not do what was asked. Which of the three it is decides ``fl_core/broker/line/failures.py``."""


class BrokerUnavailable(BrokerError):
    """The broker does not answer, answers nonsense, or cannot serve now. The only family that is retried."""


class BrokerRefused(BrokerUnavailable):
    """The broker wants another password, or this user may not do that: until its operator changes that."""


class BrokerUnfit(BrokerError):
    """The broker understood and cannot: a key of another type, an unknown command, a cluster. Not retried."""


class CampaignError(FedtideError):
    """What the operator asked for is not possible in the campaign's present state."""


class FencedOut(CampaignError):
    """This coordinator's lease has passed to another; none of its writes took effect."""


class WorkerFailed(FedtideError):
    """A thread or a process of a worker has ended and could not be replaced: the worker ends too (exit code 2)."""


class BudgetSpent(FedtideError):
    """This device may give no more of its data away (``[privacy]``, ``--max-epsilon``): tasks go to others."""


class TrainingStopped(FedtideError):
    """Local training ended early, because the task was cancelled or the worker is stopping."""


class InvariantError(FedtideError):
    """Something that cannot happen did: a bug in fedtide, not in what you gave it."""


class MissingBlob(Exception):
    """A chunk is gone (its version was dropped, or its writer never finished); ask for a newer one."""


class PayloadLost(Exception):
    """A payload was on a server that has forgotten it: nobody is to blame, and its task is to be done again."""
