"""The link between machines is encrypted, and nobody can sit in the middle of it.

The master makes a certificate for each run, which nobody has to trust: both sides put its fingerprint into the proofs
that they have the secret (`harness.run.secret`). Whoever ends the encryption on the way has another certificate, and
cannot prove it.
"""

from __future__ import annotations

import hashlib
import ssl
import tempfile
from pathlib import Path

from harness.core.scratch import scratch_folder

PREFIX = "feedstorm-master-"


def master_tls() -> tuple[ssl.SSLContext, str]:
    """How a master encrypts, and the fingerprint of the certificate it made for that. Raises OSError.

    The key is in a folder that only its owner may enter, and only until it is loaded.
    """
    from harness.run.link_certificate import new_certificate

    certificate, pem = new_certificate()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    with scratch_folder(Path(tempfile.gettempdir()), PREFIX) as folder:
        path = folder / "key.pem"
        path.write_bytes(pem)
        context.load_cert_chain(path)
    return context, fingerprint(certificate)


def worker_tls() -> ssl.SSLContext:
    """How a worker encrypts: it takes any certificate, and says in its proof which."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def fingerprint(certificate: bytes) -> str:
    """Of a certificate in DER."""
    return hashlib.sha256(certificate).hexdigest()
