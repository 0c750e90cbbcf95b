"""A capability network for pycapnp: reads a sturdy ref, speaks TLS, and presents the sturdy ref's id.

pycapnp knows neither TLS nor service ids. So it is given one end of a socket pair, and what it sends leaves through a TLS session whose
first message, the `Bootstrap`, is made anew with the id in it.
"""

import asyncio
import base64
import hashlib
import pathlib
import socket
import ssl
import struct
import subprocess
import urllib.parse

import capnp

HERE = pathlib.Path(__file__).resolve().parent
bootstrap_capnp = capnp.load(str(HERE / "bootstrap.capnp"))
cluster = capnp.load(str(HERE.parent.parent / "schema" / "cluster.capnp"))

# Every message of a connection's beginning is small.
LARGEST_FIRST_MESSAGE_WORDS = 1024


class SturdyRef:
    """What a `.cap` file says: where, who, and the id of a service there."""

    def __init__(self, uri):
        parsed = urllib.parse.urlparse(uri.strip())
        if parsed.scheme != "capnp" or parsed.username != "sha-256":
            raise ValueError(f"not a sturdy ref over TLS: {parsed.scheme}://{parsed.username}")
        self.host, self.port = parsed.hostname, parsed.port
        self.digest = unpadded(parsed.password)
        self.service_id = unpadded(parsed.path.removeprefix("/"))

    @classmethod
    def load(cls, path):
        return cls(pathlib.Path(path).read_text())


def unpadded(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


async def connect(ref, key, certificate):
    """A connection of its own: the object which `ref` stands for, and what must be kept for as long as that is used."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # The fingerprint is what counts, and it is looked at below.
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.load_cert_chain(certificate, key)
    from_tls, to_tls = await asyncio.open_connection(ref.host, ref.port, ssl=context)
    digest = fingerprint(to_tls.get_extra_info("ssl_object").getpeercert(binary_form=True))
    if digest != ref.digest:
        raise ValueError("somebody else answers at the address of the sturdy ref")

    near, far = socket.socketpair()
    from_us, to_us = await asyncio.open_connection(sock=far)
    pumps = [
        asyncio.create_task(pump_out(from_us, to_tls, ref.service_id)),
        asyncio.create_task(pump(from_tls, to_us)),
    ]
    near.setblocking(False)
    stream = await capnp.AsyncIoStream.create_connection(sock=near)
    client = capnp.TwoPartyClient(stream)
    return client.bootstrap(), (client, pumps)


def fingerprint(certificate):
    """SHA-256 of the public key in a certificate, both in DER."""
    pem = run_openssl(["x509", "-inform", "der", "-pubkey", "-noout"], certificate)
    return hashlib.sha256(run_openssl(["pkey", "-pubin", "-outform", "der"], pem)).digest()


def run_openssl(words, given):
    return subprocess.run(["openssl", *words], input=given, capture_output=True, check=True).stdout


async def pump_out(reader, writer, service_id):
    """Passes on what pycapnp sends. Its first message is a `Bootstrap`, and is written anew."""
    first = await read_message(reader)
    writer.write(with_id(first, service_id))
    await writer.drain()
    await pump(reader, writer)


async def pump(reader, writer):
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except (ConnectionError, ssl.SSLError):
        pass
    finally:
        writer.close()


async def read_message(reader):
    """One message in stream framing: the number of segments less one, their sizes in words, padding, the segments."""
    head = await reader.readexactly(4)
    (last_segment,) = struct.unpack("<I", head)
    sizes = await reader.readexactly(4 * (last_segment + 1) + (4 if last_segment % 2 else 0))
    words = sum(struct.unpack_from(f"<{last_segment + 1}I", sizes))
    if words > LARGEST_FIRST_MESSAGE_WORDS:
        raise ValueError(f"a first message of {words} words")
    return head + sizes + await reader.readexactly(8 * words)


def with_id(message, service_id):
    with bootstrap_capnp.Message.from_bytes(message) as given:
        if given.which() != "bootstrap":
            raise ValueError(f"the first message is {given.which()}, not a bootstrap")
        question = given.bootstrap.questionId
    made = bootstrap_capnp.Message.new_message()
    bootstrap = made.init("bootstrap")
    bootstrap.questionId = question
    bootstrap.deprecatedObjectId = service_id + b"\0"
    return made.to_bytes()
