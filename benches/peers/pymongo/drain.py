"""pymongo as everyone writes it: a loop over the change stream of one collection, with full documents."""

import json
import os
import resource
import sys
import time
from dataclasses import dataclass

from bson import Timestamp
from pymongo import MongoClient


@dataclass
class Item:
    _id: int
    sku: str
    name: str
    category: str
    price: float
    quantity: int
    status: str
    description: str
    written: float | None = None


def cpu():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def from_write(ages):
    """How long ago the events of the second half were written, in microseconds. The first one warms up."""
    if not ages:
        return {}
    half = sorted(ages[len(ages) // 2 :])
    return {f"from_write_p{percent}": half[len(half) * percent // 100] for percent in (50, 99)}


task = json.loads(sys.argv[-1])
client = MongoClient(os.environ["MONGODB_URI"])
items = client[task["database"]]["items"]
begin_cpu, begin = cpu(), time.perf_counter()
seen = quantity = 0
ages = []
with items.watch(
    [{"$match": {"operationType": "insert"}}],
    full_document="updateLookup",
    start_at_operation_time=Timestamp(task["time"], task["increment"]),
) as stream:
    for change in stream:
        item = Item(**change["fullDocument"])
        quantity += item.quantity
        if item.written is not None:
            ages.append(time.time_ns() / 1e3 - item.written)
        seen += 1
        if seen == task["events"]:
            break
    seconds, used = time.perf_counter() - begin, cpu() - begin_cpu
assert quantity == 7 * seen
print(
    json.dumps(
        {
            "events_per_second": seen / seconds,
            "client_cpu": used * 1e6 / seen,
            "peak_memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            **from_write(ages),
        }
    )
)
