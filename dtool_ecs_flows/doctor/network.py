"""The way to the endpoint: name, connection, certificate."""

from __future__ import annotations

import socket
import ssl
import time
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from dtool_ecs_flows.doctor.report import Step, skip
from dtool_ecs_flows.settings import BucketSettings
from dtool_ecs_flows.store import trusted

PATIENCE = 10.0
"""Seconds that a connection may take here, whatever the setting allows."""

SOON = 30
"""Days; a certificate that ends within them is a warning."""

_DAY = 24 * 3600
_PORTS = "ECS listens on 9020 (http) and 9021 (https)"


def reach(settings: BucketSettings) -> Step:
    """Look up the endpoint's name and connect to it, or to the proxy on the way."""
    proxy = _proxy(settings)
    host, port = _address(proxy or settings.endpoint)
    what = f"the proxy {host}:{port}" if proxy else f"{host}:{port}"
    origin = "HTTP_PROXY or HTTPS_PROXY" if proxy else settings.origin("endpoint")
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        return Step(
            name="endpoint",
            state="failed",
            found=f"the name {host!r} is not known here: {_reason(error)}",
            advice=f"correct the endpoint (from {origin}), or see to the network and its name service",
        )
    address = str(found[0][4][0])
    begun = time.monotonic()
    try:
        socket.create_connection((host, port), _patience(settings)).close()
    except OSError as error:
        return Step(
            name="endpoint",
            state="failed",
            found=f"{what} ({address}) takes no connection: {_reason(error)}",
            advice=f"check host and port (from {origin}): {_PORTS}; a firewall may be between, or the store be down",
        )
    took = 1000 * (time.monotonic() - begun)
    return Step(name="endpoint", state="ok", found=f"{what} is {address}, connected in {took:.1f} ms")


def look_at_tls(settings: BucketSettings) -> Step:
    """Shake hands, and tell by what the certificate is trusted and how long it lasts."""
    host, port = _address(settings.endpoint)
    if settings.endpoint.startswith("http:"):
        if host in ("localhost", "::1") or host.startswith("127."):
            return Step(name="TLS", state="skipped", found="http to this computer itself")
        return Step(
            name="TLS",
            state="warning",
            found="http: requests are signed, but whoever sits between can read the data",
            advice=f"use https if the store has it: {_PORTS}",
        )
    if _proxy(settings):
        return skip(["TLS"], "it begins behind a proxy; the requests below use it")[0]
    file = settings.ca_bundle or trusted(settings.model_copy(update={"verify_tls": True}))
    problem, until = _shake_hands(settings, host, port, file)
    origin = settings.origin("ca_bundle") if settings.ca_bundle else "the certificates that come with Python"
    if not settings.verify_tls:
        return Step(
            name="TLS",
            state="warning",
            found=f"the certificate is not checked ({settings.origin('verify_tls')}): whoever sits between can read "
            "and change the data" + (f"; checked, it would be refused: {problem[0]}" if problem else ""),
            advice=problem[1] if problem else "it would pass: take that setting away",
        )
    if problem:
        return Step(name="TLS", state="failed", found=problem[0], advice=problem[1])
    days = int((until - time.time()) / _DAY)
    return Step(
        name="TLS",
        state="ok" if days >= SOON else "warning",
        found=f"the certificate is trusted by {file} ({origin}), and lasts {days:,} days",
        advice="" if days >= SOON else "have the store's administrator renew it: from then on nothing works",
    )


def _shake_hands(settings: BucketSettings, host: str, port: int, file: str) -> tuple[tuple[str, str] | None, float]:
    """Return what is wrong and what to do about it, else the time when the certificate ends."""
    try:
        context = ssl.create_default_context(cafile=file)
    except (ssl.SSLError, OSError) as error:
        return (f"{file} holds no certificates: {_reason(error)}", "name a PEM file as CA bundle"), 0.0
    try:
        with (
            socket.create_connection((host, port), _patience(settings)) as plain,
            context.wrap_socket(plain, server_hostname=host) as secure,
        ):
            until = ssl.cert_time_to_seconds(str((secure.getpeercert() or {})["notAfter"]))
    except ssl.SSLCertVerificationError as error:
        return (f"the certificate is refused: {error.verify_message}", _mend(error, settings, host)), 0.0
    except OSError as error:
        if "WRONG_VERSION_NUMBER" in str(error):
            advice = f"write http:// in place of https:// (from {settings.origin('endpoint')}), or the port of https"
            return (f"{host}:{port} speaks http, not https", advice), 0.0
        return (f"no TLS with {host}:{port}: {_reason(error)}", f"check the port: {_PORTS}"), 0.0
    return None, until


def _mend(error: ssl.SSLCertVerificationError, settings: BucketSettings, host: str) -> str:
    if error.verify_code == 10:  # X509_V_ERR_CERT_HAS_EXPIRED
        return "have the store's administrator renew it"
    if error.verify_code in (62, 64):  # X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH
        return f"it is not for {host!r}: write into the endpoint the name that the certificate is for"
    key = f"DTOOL_ECS_CA_BUNDLE_{settings.bucket}"
    if settings.ca_bundle:
        return f"{settings.ca_bundle} (from {settings.origin('ca_bundle')}) has not the authority that signed it"
    return f"set {key} to a PEM file with the authority of your site, which its administrators have"


def _patience(settings: BucketSettings) -> float:
    return min(settings.connect_timeout, PATIENCE)


def _proxy(settings: BucketSettings) -> str:
    """Return the proxy that requests to the endpoint go through."""
    parts = urlsplit(settings.endpoint)
    return "" if proxy_bypass(parts.hostname or "") else getproxies().get(parts.scheme, "")


def _address(url: str) -> tuple[str, int]:
    parts = urlsplit(url if "://" in url else f"http://{url}")
    return parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error) or type(error).__name__
