"""TLS to the broker: where an address names an authority, that one is trusted, and nobody else."""

from __future__ import annotations

import socket
import ssl

import redis


class TrustingConnection(redis.SSLConnection):
    """redis-py's connection, which with ``ssl_ca_certs`` alone would trust all of the system's authorities besides.

    Whoever can turn a name on the network to themselves gets a certificate for it from one of those. An authority of
    one's own is there so that this is of no use. Without any that is named, the system's are trusted as before.
    """

    def _wrap_socket_with_ssl(self, sock: socket.socket) -> socket.socket:
        if not (self.ca_certs or self.ca_path or self.ca_data) or self.ssl_validate_ocsp:
            wrapped: socket.socket = super()._wrap_socket_with_ssl(sock)  # type: ignore[no-untyped-call]
            return wrapped
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = self.check_hostname
        context.verify_mode = self.cert_reqs
        context.load_verify_locations(cafile=self.ca_certs, capath=self.ca_path, cadata=self.ca_data)
        if self.certfile or self.keyfile:
            context.load_cert_chain(self.certfile or self.keyfile, self.keyfile, self.certificate_password)
        if self.ssl_min_version is not None:
            context.minimum_version = self.ssl_min_version
        if self.ssl_ciphers:
            context.set_ciphers(self.ssl_ciphers)
        return context.wrap_socket(sock, server_hostname=self.host)
