"""PostgreSQL as it is done where there are no change streams: a trigger writes into a table, and a loop polls it, a
hundred rows at a time. The first argument says when it polls again: `interval`, 100 ms later, or `at-once`. It starts a
server of its own and writes the same into it: a backlog, or 200 rows in a second while it polls."""

import _thread
import contextlib
import glob
import json
import os
import pwd
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass

import psycopg

BATCH = 100
INTERVAL = 0.1

SCHEMA = """
CREATE TABLE items (
    id bigint PRIMARY KEY, sku text, name text, category text, price float8, quantity int, status text, description text
);
CREATE TABLE event_log (id bigserial PRIMARY KEY, operation text NOT NULL, document jsonb NOT NULL);
CREATE TABLE consumer (last bigint NOT NULL);
INSERT INTO consumer VALUES (0);
CREATE FUNCTION log_event() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO event_log (operation, document) VALUES (lower(TG_OP), to_jsonb(NEW));
    RETURN NEW;
END $$;
CREATE TRIGGER items_changed AFTER INSERT OR UPDATE ON items FOR EACH ROW EXECUTE FUNCTION log_event();
"""

ITEM = """
n, 'SKU-' || lpad(n::text, 8, '0'), 'Item number ' || n, 'household', 9.99, 7, 'active',
'A small thing that is good to have about the house.'
"""

BACKLOG = f"INSERT INTO items SELECT {ITEM} FROM generate_series(0, %s::bigint - 1) AS n"

LIVE = f"""
ALTER TABLE items ADD COLUMN written float8;
CREATE PROCEDURE write_items(events bigint) LANGUAGE plpgsql AS $$
DECLARE
    first timestamptz := clock_timestamp();
BEGIN
    FOR n IN 0 .. events - 1 LOOP
        PERFORM pg_sleep(extract(epoch FROM first + n * interval '5 ms' - clock_timestamp()));
        INSERT INTO items VALUES ({ITEM}, extract(epoch FROM clock_timestamp()) * 1e6);
        COMMIT;
    END LOOP;
END $$;
"""


@dataclass
class Item:
    id: int
    sku: str
    name: str
    category: str
    price: float
    quantity: int
    status: str
    description: str
    written: float | None = None


@contextlib.contextmanager
def server():
    """A server on a socket in a folder of its own. It refuses to be root."""
    programs = sorted(glob.glob("/usr/lib/postgresql/*/bin"))[-1]
    folder = tempfile.mkdtemp(prefix="changestream-postgres-")
    user = {}
    if os.geteuid() == 0:
        postgres = pwd.getpwnam("postgres")
        os.chown(folder, postgres.pw_uid, postgres.pw_gid)
        user = {"user": postgres.pw_uid, "group": postgres.pw_gid}
    data = os.path.join(folder, "data")
    initdb = [f"{programs}/initdb", "--auth=trust", "--username=postgres", "--encoding=UTF8", data]
    subprocess.run(initdb, check=True, stdout=subprocess.DEVNULL, **user)
    arguments = ["-D", data, "-k", folder, "-h", ""]
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen([f"{programs}/postgres", *arguments], **silent, **user)
    try:
        yield f"host={folder} user=postgres dbname=postgres"
    finally:
        process.send_signal(signal.SIGINT)
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def connect(address):
    for _ in range(100):
        try:
            return psycopg.connect(address)
        except psycopg.OperationalError:
            time.sleep(0.1)
    raise SystemExit("the server does not answer")


def write(address, events):
    """On a connection of its own. Where it fails, it ends the reader, which has nothing to wait for."""
    try:
        with psycopg.connect(address, autocommit=True) as connection:
            connection.execute("CALL write_items(%s)", (events,))
    except psycopg.Error:
        _thread.interrupt_main()
        raise


def cpu():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def drain(connection, events, at_once):
    begin_cpu, begin = cpu(), time.perf_counter()
    seen = quantity = last = 0
    ages = []
    while seen < events:
        query = "SELECT id, document FROM event_log WHERE id > %s ORDER BY id LIMIT %s"
        rows = connection.execute(query, (last, BATCH)).fetchall()
        for last, document in rows:
            item = Item(**document)
            quantity += item.quantity
            if item.written is not None:
                ages.append(time.time_ns() / 1e3 - item.written)
        seen += len(rows)
        if rows:
            connection.execute("UPDATE consumer SET last = %s", (last,))
        connection.commit()
        if not at_once and seen < events:
            time.sleep(INTERVAL)
    assert quantity == 7 * seen
    return time.perf_counter() - begin, cpu() - begin_cpu, ages


def from_write(ages):
    """How long ago the events of the second half were written, in microseconds. The first one warms up."""
    if not ages:
        return {}
    half = sorted(ages[len(ages) // 2 :])
    return {f"from_write_p{percent}": half[len(half) * percent // 100] for percent in (50, 99)}


def main():
    mode, task = sys.argv[-2], json.loads(sys.argv[-1])
    with server() as address, connect(address) as connection:
        connection.execute(SCHEMA)
        live = task["comparison"] == "peers-latency"
        if live:
            connection.execute(LIVE)
        else:
            connection.execute(BACKLOG, (task["events"],))
        connection.commit()
        if live:
            threading.Thread(target=write, args=(address, task["events"])).start()
        seconds, used, ages = drain(connection, task["events"], mode == "at-once")
    print(
        json.dumps(
            {
                "events_per_second": task["events"] / seconds,
                "client_cpu": used * 1e6 / task["events"],
                "peak_memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
                **from_write(ages),
            }
        )
    )


main()
