"""Translates aiohttp's errors to ours.

The `str` of aiohttp's errors has hosts and system errors only. Their attributes and `repr` hold
proxy passwords and request headers, so the originals are not chained.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import aiohttp

from dynamiq_async import errors
from dynamiq_async._credentials import mask
from dynamiq_async.transport._aiohttp_connections import NotConnectedError
from dynamiq_async.transport._headers import readable

if TYPE_CHECKING:
    from dynamiq_async.transport.proxies import Proxy

_ALERT = re.compile(r"\[SSL: [A-Z0-9]+_ALERT_(\w+)\]")
# aiohttp's own error within another one, with a status that no server has sent.
_WITHIN = re.compile(r"<\w+: \d+, message=(?P<quote>['\"])(?P<said>.*?)(?P=quote)[^>]*>")

_ADVICE = "; for a client certificate, pass verify= an ssl.SSLContext that has it loaded"


def translated(
    error: Exception, request: str, *, ca: str, key: str | None, proxy: Proxy | None = None
) -> errors.DynamiqError:
    """Our error for one of aiohttp's, with a cause that holds no header of the request.

    Args:
        request: the request's name in messages.
        ca: the certificates that the server's was checked against.
        key: masked in the message.
        proxy: the proxy of the request.
    """
    cause, said = _scrub(error)
    failure = _classify(error, request, mask(readable(" ".join(said.split())), key), ca, proxy)
    failure.__cause__ = cause
    return failure


def _scrub(error: Exception) -> tuple[OSError | None, str]:
    if isinstance(error, NotConnectedError):
        return _scrub(error.reason)
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        verdict = error.certificate_error
        return verdict if isinstance(verdict, OSError) else None, str(verdict)
    if isinstance(error, aiohttp.ClientConnectorError):
        return error.os_error, str(error.os_error) or type(error.os_error).__name__
    if isinstance(error, aiohttp.ClientResponseError):
        return None, f"{error.status} {error.message}"
    said = _WITHIN.sub(lambda match: match["said"], str(error)) or type(error).__name__
    if isinstance(error, OSError) and not isinstance(error, aiohttp.ClientError):
        return error, said
    return None, said


def _classify(
    error: Exception, request: str, said: str, ca: str, proxy: Proxy | None
) -> errors.DynamiqError:
    way = f" through {proxy}" if proxy is not None else ""
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return errors.ConnectTimeoutError(
            f"{request}: no connection{way} within the connect limit", limit="connect"
        )
    if "SSL handshake is taking longer" in said:  # asyncio's own limit, of a minute
        return errors.ConnectTimeoutError(f"{request}: no connection{way}: {said}", limit="connect")
    if isinstance(error, aiohttp.ClientConnectorCertificateError | aiohttp.ClientConnectorSSLError):
        return errors.ConnectError(
            f"{request}: TLS failed{way}: {said}. The server was checked against {ca}; "
            "pass verify= with a CA file or an SSLContext if it has a private CA"
        )
    if alert := _alert_of(error):
        return errors.ConnectError(
            f"{request}: TLS failed{way}: the server refused the connection ({alert}), so it did "
            f"not read the request{_ADVICE if 'certificate' in alert else ''}"
        )
    if isinstance(error, aiohttp.ClientProxyConnectionError | aiohttp.ClientHttpProxyError):
        return errors.ConnectError(f"{request}: {proxy or 'the proxy'} refused: {said}")
    if isinstance(
        error, aiohttp.ClientConnectorError | aiohttp.ServerFingerprintMismatch | NotConnectedError
    ):
        return errors.ConnectError(f"{request}: cannot connect{way}: {said}")
    if isinstance(error, RuntimeError) and "Session is closed" in said:
        return errors.ClientClosedError(f"{request}: the aiohttp session is closed")
    if isinstance(error, aiohttp.InvalidURL | aiohttp.NonHttpUrlClientError | ValueError):
        return errors.InvalidArgumentError(f"{request} cannot be sent: {said}", argument="url")
    if isinstance(error, aiohttp.ClientResponseError):
        return errors.APIConnectionError(f"{request}: the answer is not HTTP: {said}")
    if isinstance(error, TimeoutError) and error.errno is None:
        # Not ours, which are kept elsewhere: a given session's, or its connector's.
        return errors.APITimeoutError(f"{request}: a limit of the transport's passed: {said}")
    return errors.APIConnectionError(f"{request}: the connection broke: {said}")


def _alert_of(error: Exception) -> str:
    """The text of the TLS alert by which the server refused a connection; `""` if there is none.

    It is not known whether a connection of a caller's session took requests before. Then only
    alerts about certificates count, because they belong to the handshake.
    """
    # Found in the text, because aiohttp chains the cause only where a read waited for it.
    fresh = isinstance(error, NotConnectedError)
    lost = error.reason if isinstance(error, NotConnectedError) else error
    found = _ALERT.search(str(lost)) if isinstance(lost, OSError) else None
    alert = found[1].replace("_", " ").lower() if found else ""
    return alert if fresh or "certificate" in alert or alert == "unknown ca" else ""
