"""Celery, as fedtide uses it: the doorbell. It wakes a worker; what became of the task is in the ledger.

Settings that matter, and why:

- msgpack only, no results, no events, no remote control, no gossip, no mingle: a device needs few Redis rights.
- Early acknowledgement: late acks with a visibility timeout re-run a task that is longer than the timeout, for ever.
  A lost task is found by the worker's beat instead.
- ``worker_disable_prefetch``: a worker takes a message only when it is free, so nothing waits behind a long task.
- A worker's messages are read by ``intake.py`` before Celery sees them.
- No record of unacknowledged messages at the server (``ack_emulation``): with early acknowledgement it would be
  written and deleted at once, at two transactions per task. What a worker that stops has not begun goes back on its
  queue; what one that is killed has taken, the coordinator misses and rings again.
"""

from __future__ import annotations

import ssl
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

from celery import Celery

from fl_core.broker.connection import KEEPALIVE, SOCKET_TIMEOUT_SECONDS
from fl_core.broker.url import check_url


def make_app(url: str, *, celery_events: bool = False) -> Celery:
    """A worker's Celery application; it connects at first use.

    Args:
        url: the broker.
        celery_events: send task events and answer remote control, for Celery's own monitoring tools.
    """
    transport: dict[str, Any] = {
        "priority_steps": [0],
        "socket_timeout": SOCKET_TIMEOUT_SECONDS,
        "socket_connect_timeout": 5,
        "socket_keepalive": True,
        "socket_keepalive_options": KEEPALIVE,
        "health_check_interval": 2,  # so often is it looked whether an answer is overdue
        "ack_emulation": False,
    }
    app = Celery("fedtide", broker=_kombu_url(check_url(url)), set_as_current=False)
    if url.startswith("rediss://") and "ssl_cert_reqs" not in url:
        # kombu would take any certificate; redis-py, our other connection, does not.
        app.conf.broker_use_ssl = {"ssl_cert_reqs": ssl.CERT_REQUIRED}
    app.conf.update(
        task_serializer="msgpack",
        accept_content=["msgpack"],
        event_serializer="msgpack",
        task_ignore_result=True,
        task_store_errors_even_if_ignored=False,
        task_acks_late=False,
        task_create_missing_queues=True,
        broker_transport_options=transport,
        broker_connection_retry=True,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        # A proxy's page in the place of a reply, or rights that are being edited, end no worker either.
        broker_channel_error_retry=True,
        worker_prefetch_multiplier=1,
        worker_disable_prefetch=True,
        worker_enable_remote_control=celery_events,
        worker_send_task_events=celery_events,
        task_send_sent_event=celery_events,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,
    )
    return app


def _kombu_url(url: str) -> str:
    """kombu's own way to write it: a socket has another scheme, and behind the ? it knows the options for TLS alone."""
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query))
    user = f"{query.get('username', '')}:{quote(query['password'], safe='')}@" if "password" in query else ""
    if parts.scheme == "unix":
        return f"redis+socket://{user}{parts.path}?virtual_host={query.get('db', '0')}"
    tls = urlencode({key: value for key, value in query.items() if key.startswith("ssl_")})
    path = f"/{query['db']}" if "db" in query else parts.path
    return urlunsplit((parts.scheme, user + parts.netloc.rpartition("@")[2] if user else parts.netloc, path, tls, ""))
