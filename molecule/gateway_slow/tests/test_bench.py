"""What clients get is measured from here: through the gateway, over TLS, with a client's key."""

import json

from _gateway import command


def test_the_deployment_is_measured_through_its_gateway_with_the_key_of_a_client(host, key, tmp_path):
    file = tmp_path / "client.key"
    file.touch(0o600)
    file.write_text(key + "\n")
    words = ["--from", "here", "--engine", "llama_cpp", "--streams", "1,2", "--prompt-tokens", "32"]
    # Its own budget of a minute is not enough for a machine that does much besides.
    words += ["--output-tokens", "16", "--results", str(tmp_path), "--key-file", str(file), "--budget", "20"]
    done = command(host, "bench", *words)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = tmp_path.glob("*/*.json")
    text = path.read_text()
    found = json.loads(text)
    assert [(point["max_concurrency"], point["failed"]) for point in found["points"]] == [(1, 0), (2, 0)]
    assert all(point["total_output_tokens"] == 16 * point["completed"] for point in found["points"])
    assert found["environment"]["measured_from"] == "another host, through the gateway"
    assert key not in text + done.stdout + done.stderr
    file.write_text("sk-dsdeploy-of-nobody\n")
    refused = command(host, "bench", *words)
    assert (refused.returncode, "401" in refused.stdout + refused.stderr) == (3, True), refused.stdout + refused.stderr
