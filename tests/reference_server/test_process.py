"""How a part of the stack ends when it no longer follows the flags."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from real_servers import redis_cache

from reference_server.settings import Region, Settings, write_settings

pytestmark = pytest.mark.slow
PROGRAM = """
from reference_server.process import run

async def main(context):
    def fail(flags):
        raise LookupError("a bug")

    context.flags.on_change(fail)
    print("follows", flush=True)
    await context.stopping.wait()
    print("ended in order", flush=True)

run(main)
"""


def test_a_process_whose_flags_stand_still_ends_in_order_with_the_error(tmp_path: Path) -> None:
    redis = redis_cache(tmp_path)
    redis.start()
    ports = {"memcached_ports": (), "redis_queue_port": redis.port, "redis_cache_port": redis.port}
    region = Region(name="eu", index=0, api_ports=(), fep_ports=(), replicator_port=0, **ports)  # type: ignore[arg-type]
    settings = Settings(directory=str(tmp_path), sockets=str(tmp_path), secret="00", regions=(region,))
    write_settings(tmp_path / "settings.json", settings)
    words = ["--settings", str(tmp_path / "settings.json"), "--region", "eu", "--name", "graph"]
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "follows\n"
        redis_cli = ["redis-cli", "-p", str(redis.port)]
        subprocess.run([*redis_cli, "HSET", "flags", "two_tier", f"{1:020d}:false"], check=True, capture_output=True)
        subprocess.run([*redis_cli, "INCR", "flags:version"], check=True, capture_output=True)
        out, err = process.communicate(timeout=30)
    finally:
        process.kill()
        process.communicate()
        redis.kill()
    assert out == "ended in order\n"
    assert "LookupError: a bug" in err
    assert process.returncode == 1
