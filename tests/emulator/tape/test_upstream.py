"""What came before a connection ended is not lost."""

from __future__ import annotations

from yarl import URL

from dynamiq_async.emulator.tape.upstream import Upstream
from tests.support.wire import Peer, Wire


async def test_what_came_before_a_reset_is_handed_out() -> None:
    async def handle(peer: Peer) -> None:
        await peer.send(b"one")
        await peer.gone()
        peer.close()

    async with Wire(handle) as app:
        upstream = await Upstream.open(URL(app.url), None, 20)
        async with upstream.sending(b"GET / HTTP/1.1\r\n", b"\r\n"):
            assert (await upstream.receive())[1] == b"one"
        upstream.data_received(b"two")
        upstream.connection_lost(reset := ConnectionResetError())
        assert (await upstream.receive())[1] == b"two"
        assert (await upstream.receive())[1] == b""
        assert upstream.failure is reset
        upstream.close()
