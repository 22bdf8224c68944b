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
  }
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
  await new Promise((resolve, reject) => {
    stream.on("error", reject);
    stream.on("change", async (change) => {
      quantity += new Item(change.fullDocument).quantity;
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
    }),
  );
  process.exit(0);
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
