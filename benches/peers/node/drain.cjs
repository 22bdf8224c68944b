// The Node driver as the usual handler class has it: a listener of one collection, with full documents.
const { MongoClient, Timestamp } = require("mongodb");

class Item {
  constructor(document) {
    this.id = document._id;
    this.sku = document.sku;
    this.name = document.name;
    this.category = document.category;
    this.price = document.price;
    this.quantity = document.quantity;
    this.status = document.status;
    this.description = document.description;
    this.written = document.written;
  }
}

// In microseconds since the Unix epoch.
function now() {
  return (performance.timeOrigin + performance.now()) * 1e3;
}

// How long ago the events of the second half were written. The first one warms up.
function fromWrite(ages) {
  if (ages.length === 0) return {};
  const half = ages.slice(ages.length / 2).sort((a, b) => a - b);
  const at = (percent) => half[Math.floor((half.length * percent) / 100)];
  return { from_write_p50: at(50), from_write_p99: at(99) };
}

async function main() {
  const task = JSON.parse(process.argv.at(-1));
  const client = await MongoClient.connect(process.env.MONGODB_URI);
  const items = client.db(task.database).collection("items");
  const cpu = process.cpuUsage();
  const begin = process.hrtime.bigint();
  const stream = items.watch([{ $match: { operationType: "insert" } }], {
    fullDocument: "updateLookup",
    startAtOperationTime: new Timestamp({ t: task.time, i: task.increment }),
  });
  let seen = 0;
  let quantity = 0;
  const ages = [];
  await new Promise((resolve, reject) => {
    stream.on("error", reject);
    stream.on("change", async (change) => {
      const item = new Item(change.fullDocument);
      quantity += item.quantity;
      if (item.written !== undefined) ages.push(now() - item.written);
      seen += 1;
      if (seen === task.events) resolve();
    });
  });
  const seconds = Number(process.hrtime.bigint() - begin) / 1e9;
  const used = process.cpuUsage(cpu);
  if (quantity !== 7 * seen) throw new Error(`a quantity of ${quantity}`);
  console.log(
    JSON.stringify({
      events_per_second: task.events / seconds,
      client_cpu: (used.user + used.system) / task.events,
      peak_memory: process.resourceUsage().maxRSS / 1024,
      ...fromWrite(ages),
    }),
  );
  process.exit(0);
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
