"""TLS with a certificate and its key."""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
import subprocess
from pathlib import Path

import pytest

APP = Path(__file__).parent / "app.py"
SUBJECT = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]


def make_certificate(directory, name, *options):
    """Return the paths of a certificate and its key, as `openssl` makes them."""
    certificate, key = directory / f"{name}.pem", directory / f"{name}.key"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    command += [*SUBJECT, "-keyout", str(key), "-out", str(certificate), *options]
    subprocess.run(command, check=True, capture_output=True, timeout=30)
    return str(certificate), str(key)


def with_dates(certificate, first, last):
    """Write other dates, of the form `YYMMDD`, into a certificate. Its signature is wrong then."""
    path = Path(certificate)
    dates = iter([first, last])
    binary = ssl.PEM_cert_to_DER_cert(path.read_text())
    binary = re.sub(rb"\d{6}(?=\d{6}Z)", lambda _: next(dates), binary)
    path.write_text(ssl.DER_cert_to_PEM_cert(binary))


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return make_certificate(tmp_path_factory.mktemp("tls"), "good")


@pytest.fixture
def serve_tls(serve, files):
    certificate, key = files
    return serve("same", "--tls-cert", certificate, "--tls-key", key)


def connect(server, files):
    """Return a socket whose handshake is done, and which trusts the certificate of the service."""
    context = ssl.create_default_context(cafile=files[0])
    context.set_alpn_protocols(["h2", "http/1.1"])
    connection = socket.create_connection(server.address, timeout=30)
    return context.wrap_socket(connection, server_hostname="localhost")


def test_curl_trusts_the_certificate(serve_tls, files):
    _, port = serve_tls.address
    command = ["curl", "--silent", "--fail", "--cacert", files[0], f"https://localhost:{port}/call"]
    command += ["--json", "41"]

    assert subprocess.run(command, capture_output=True, check=True, timeout=30).stdout == b"41"
    assert serve_tls.lines[-1].startswith("serving 'pipeline' on https://127.0.0.1:")


@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
def test_both_versions_of_tls_are_spoken(serve_tls, version):
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion[version]

    with context.wrap_socket(socket.create_connection(serve_tls.address, timeout=30)) as connection:
        assert connection.version() == version.replace("_", ".")


def test_requests_follow_each_other_on_one_connection(serve_tls, files):
    with connect(serve_tls, files) as connection:
        for item in (b"1", b"[2]"):
            head = b"POST /call HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(item)
            connection.sendall(head + item)
            response = connection.recv(10_000)

            assert response.startswith(b"HTTP/1.1 200 OK")
            assert response.endswith(b"\r\n\r\n" + item)
        assert connection.selected_alpn_protocol() == "http/1.1"


def test_a_page_without_tls_is_another_site(serve_tls, files):
    host = f"localhost:{serve_tls.address[1]}"

    def status(origin):
        with connect(serve_tls, files) as connection:
            head = f"GET /readyz HTTP/1.1\r\nHost: {host}\r\nOrigin: {origin}\r\nConnection: close\r\n\r\n"
            connection.sendall(head.encode())
            return int(connection.recv(10_000).split()[1])

    assert (status(f"https://{host}"), status(f"http://{host}")) == (200, 403)


def test_clients_that_do_not_speak_tls_hold_nobody_up(serve_tls, files):
    with contextlib.ExitStack() as stack:
        for _ in range(20):
            stack.enter_context(contextlib.closing(socket.create_connection(serve_tls.address)))
        plain = stack.enter_context(contextlib.closing(socket.create_connection(serve_tls.address)))
        plain.settimeout(30)
        plain.sendall(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n")

        with connect(serve_tls, files) as connection:
            connection.sendall(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert connection.recv(10_000).startswith(b"HTTP/1.1 200 OK")
        with contextlib.suppress(ConnectionResetError):
            assert b"HTTP" not in plain.recv(10_000)
        assert serve_tls.stop() == 0


@pytest.mark.parametrize(
    ("first", "last", "text"),
    [
        (b"200101", b"200201", "has expired on 2020-02-01"),
        (b"490101", b"490201", "is not valid before 2049-01-01"),
    ],
)
def test_a_certificate_of_another_time_is_a_warning(serve, tmp_path, first, last, text):
    certificate, key = make_certificate(tmp_path, "other")
    with_dates(certificate, first, last)

    server = serve("same", "--tls-cert", certificate, "--tls-key", key)

    assert f"warning: --tls-cert '{certificate}' {text}\n" in server.lines


def test_a_chain_is_sent_whole(serve, tmp_path, files):
    certificate, key = make_certificate(tmp_path, "first")
    chain = tmp_path / "chain.pem"
    chain.write_text(Path(certificate).read_text() + Path(files[0]).read_text())

    server = serve("same", "--tls-cert", str(chain), "--tls-key", key)

    command = ["openssl", "s_client", "-showcerts", "-connect", "{}:{}".format(*server.address)]
    shown = subprocess.run(command, input=b"", capture_output=True, check=False, timeout=30).stdout
    assert shown.count(b"BEGIN CERTIFICATE") == 2


class TestRefused:
    """One clear line, before a node starts: the pipeline here cannot start."""

    @pytest.fixture
    def lines_of(self, refused):
        def run(*words):
            code, stderr = refused(f"{APP}:refuses", "--port", "0", *words)
            assert code == 2
            assert "no model" not in stderr
            return stderr.splitlines()

        return run

    def test_one_file_without_the_other(self, lines_of, files):
        assert any("--tls-key <FILE>" in line for line in lines_of("--tls-cert", files[0]))
        assert any("--tls-cert <FILE>" in line for line in lines_of("--tls-key", files[1]))

    def test_a_file_that_is_not_there(self, lines_of, files):
        [certificate] = lines_of("--tls-cert", "/nowhere", "--tls-key", files[1])
        [key] = lines_of("--tls-cert", files[0], "--tls-key", "/nowhere")

        assert certificate.endswith("cannot read --tls-cert '/nowhere': No such file or directory")
        assert key.endswith("cannot read --tls-key '/nowhere': No such file or directory")

    def test_a_file_without_what_it_is_for(self, lines_of, files, tmp_path):
        [certificate] = lines_of("--tls-cert", files[1], "--tls-key", files[1])
        [key] = lines_of("--tls-cert", files[0], "--tls-key", files[0])
        binary = tmp_path / "binary"
        binary.write_bytes(bytes(range(256)))
        [neither] = lines_of("--tls-cert", str(binary), "--tls-key", files[1])

        assert certificate.endswith(f"--tls-cert '{files[1]}' contains no certificate in PEM format")
        assert key.endswith(f"--tls-key '{files[0]}' contains no private key in PEM format")
        assert neither.endswith(f"--tls-cert '{binary}' contains no certificate in PEM format")

    def test_a_broken_certificate(self, lines_of, files, tmp_path):
        text = Path(files[0]).read_text()
        cut, changed = tmp_path / "cut.pem", tmp_path / "changed.pem"
        cut.write_text(text[: len(text) // 2])
        changed.write_text(text.replace("\nMII", "\nAAAA"))

        [of_cut] = lines_of("--tls-cert", str(cut), "--tls-key", files[1])
        [of_changed] = lines_of("--tls-cert", str(changed), "--tls-key", files[1])

        assert f"--tls-cert '{cut}'" in of_cut
        assert f"--tls-cert '{changed}'" in of_changed

    def test_the_key_of_another_certificate(self, lines_of, files, tmp_path):
        _, other = make_certificate(tmp_path, "other")

        [line] = lines_of("--tls-cert", files[0], "--tls-key", other)

        assert f"the key in --tls-key '{other}' does not belong to the first certificate" in line

    def test_an_encrypted_key(self, lines_of, files, tmp_path):
        encrypted = tmp_path / "encrypted.key"
        command = ["openssl", "pkcs8", "-topk8", "-in", files[1], "-out", str(encrypted)]
        subprocess.run([*command, "-passout", "pass:secret"], check=True, capture_output=True, timeout=30)

        [line] = lines_of("--tls-cert", files[0], "--tls-key", str(encrypted))

        assert f"--tls-key '{encrypted}' is encrypted; decrypt it with: openssl pkey" in line
