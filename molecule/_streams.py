"""Streams that go on all the time through a gateway, and what became of each."""

import collections
import http.client
import json
import ssl
import threading

PORT = 8443


class Streams:
    """`count` clients, each with one stream after the other.

    :ivar answered: streams that came to their end. `failed`: how many of each kind did not.
    """

    def __init__(self, address, key, model, count, tokens=8):
        self.address, self.key, self.answered, self.failed = address, key, 0, collections.Counter()
        question = [{"role": "user", "content": "Say hello."}]
        self.body = json.dumps({"model": model, "stream": True, "max_tokens": tokens, "messages": question})
        # One for all: each would read all of the machine's certificates, which takes longer than a short answer.
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.context.check_hostname, self.context.verify_mode = False, ssl.CERT_NONE
        self.over, self.lock = threading.Event(), threading.Lock()
        self.threads = [threading.Thread(target=self._go_on, daemon=True) for _ in range(count)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_error):
        self.over.set()
        for thread in self.threads:
            thread.join()

    def _go_on(self):
        while not self.over.is_set():
            wrong = self._one()
            with self.lock:
                self.answered += not wrong
                if wrong:
                    self.failed[wrong] += 1

    def _one(self):
        """What was wrong with one stream, or ""."""
        channel = http.client.HTTPSConnection(self.address, PORT, timeout=300, context=self.context)
        try:
            headers = {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"}
            channel.request("POST", "/v1/chat/completions", self.body, headers)
            answer = channel.getresponse()
            text = answer.read()
        except (OSError, http.client.HTTPException) as error:
            return f"{type(error).__name__}: {error}"
        finally:
            channel.close()
        if answer.status != 200:
            return f"status {answer.status}"
        return "" if b"data: [DONE]" in text else "cut"
