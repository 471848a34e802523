"""haproxy before a registry, with TLS or without: what TLS costs is the difference."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import time
from pathlib import Path

CONFIG = """\
defaults
    mode http
    timeout connect 5s
    timeout client 1h
    timeout server 1h
frontend front
    bind fd@{descriptor} {tls}
    http-request set-header X-Forwarded-Proto {scheme}
    default_backend back
backend back
    server registry {registry}
"""

# Not an authority itself: rustls takes none for a server's certificate.
CERTIFICATE = """\
[req]
distinguished_name = name
x509_extensions = extensions
prompt = no
[name]
CN = 127.0.0.1
[extensions]
subjectAltName = IP:127.0.0.1
basicConstraints = critical, CA:FALSE
"""


class Proxy:
    """Runs while the `with` block does; its certificate goes with it."""

    def __init__(self, directory: Path, registry: str, tls: bool) -> None:
        self._directory = directory
        self._registry = registry
        self._tls = tls
        self.address = ""

    @property
    def certificates(self) -> Path:
        """A directory for `--cert-dir`."""
        return self._directory / "certificates"

    def __enter__(self) -> Proxy:
        shutil.rmtree(self._directory, ignore_errors=True)
        self.certificates.mkdir(parents=True)
        tls = f"ssl crt {self._certificate()}" if self._tls else ""
        # haproxy gets a port that is bound already: nobody else can come between.
        with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
            self.address = f"127.0.0.1:{listener.getsockname()[1]}"
            config = self._directory / "haproxy.cfg"
            scheme = "https" if self._tls else "http"
            descriptor = listener.fileno()
            config.write_text(
                CONFIG.format(descriptor=descriptor, tls=tls, scheme=scheme, registry=self._registry)
            )
            program = shutil.which("haproxy") or "/usr/sbin/haproxy"
            self._process = subprocess.Popen([program, "-db", "-q", "-f", str(config)], pass_fds=[descriptor])
        self._wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()
        shutil.rmtree(self._directory)

    def _certificate(self) -> Path:
        config, key, both = (self._directory / name for name in ("openssl.cnf", "key.pem", "both.pem"))
        certificate = self.certificates / "ca.crt"
        config.write_text(CERTIFICATE)
        command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
        command += ["-days", "2", "-config", str(config), "-keyout", str(key), "-out", str(certificate)]
        subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
        both.write_text(certificate.read_text() + key.read_text())
        return both

    def _wait(self) -> None:
        """Until a request comes through; the port answers before haproxy does."""
        context = None
        if self._tls:
            context = ssl.create_default_context(cafile=str(self.certificates / "ca.crt"))
        host, port = self.address.split(":")
        for _ in range(100):
            try:
                plain = socket.create_connection((host, int(port)), timeout=5)
                with context.wrap_socket(plain, server_hostname=host) if context else plain as stream:
                    stream.sendall(b"GET /v2/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                    if b" 200 " in stream.recv(100):
                        return
            except OSError:
                if self._process.poll() is not None:
                    break
            time.sleep(0.05)
        raise RuntimeError("haproxy does not come up")
