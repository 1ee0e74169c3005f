"""The Celery application for operators' tools: it speaks to workers that run with ``--celery-events``.

::

    celery -A fl_core.broker.operator -b redis://HOST:PORT/0 inspect ping

Without ``-b`` the broker is the one in ``FEDTIDE_BROKER``, else the embedded server's usual address. Tools need this
application and not one of their own, because workers read msgpack alone.
"""

from __future__ import annotations

import os

from fl_core.broker.connection import DEFAULT_URL
from fl_core.broker.doorbell.app import make_app

# Celery's own variable is what `-b` sets.
URL = os.environ.get("CELERY_BROKER_URL") or os.environ.get("FEDTIDE_BROKER") or DEFAULT_URL

app = make_app(URL, celery_events=True)
