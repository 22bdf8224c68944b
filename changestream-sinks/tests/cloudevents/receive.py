"""Reads requests or records, one a line in JSON, and prints the CloudEvents that Python's SDK sees in them."""

import base64
import json
import sys

from cloudevents.core.bindings import http, kafka


def read(line):
    message = json.loads(line)
    headers = message["headers"]
    body = base64.b64decode(message["body"])
    if message["protocol"] == "http":
        return http.from_http_event(http.HTTPMessage(headers, body))
    headers = {name: value.encode() for name, value in headers.items()}
    return kafka.from_kafka_event(kafka.KafkaMessage(headers, message["key"], body))


def plain(value):
    if isinstance(value, bytes):
        return {"base64": base64.b64encode(value).decode()}
    return value


for line in sys.stdin:
    event = read(line)
    attributes = {name: str(value) for name, value in event.get_attributes().items()}
    print(json.dumps({"attributes": attributes, "data": plain(event.get_data())}))
