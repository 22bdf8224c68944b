import com.fasterxml.jackson.annotation.JsonProperty;
import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.mongodb.client.MongoClient;
import com.mongodb.client.MongoClients;
import com.sun.management.OperatingSystemMXBean;
import io.debezium.embedded.Connect;
import io.debezium.engine.ChangeEvent;
import io.debezium.engine.DebeziumEngine;
import io.debezium.engine.format.Json;
import java.io.UncheckedIOException;
import java.lang.management.ManagementFactory;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Instant;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.Set;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import org.apache.kafka.connect.data.Struct;
import org.apache.kafka.connect.source.SourceRecord;
import org.apache.kafka.connect.storage.MemoryOffsetBackingStore;
import org.bson.BsonTimestamp;
import org.bson.Document;

/**
 * Debezium's engine with its MongoDB connector. It drains twice and measures the second time, from the first event
 * on: the virtual machine is warm, and the start of the connector does not count. Where events come live, only those
 * count that were written after the first one came, and the first half of them warms it.
 */
public final class Drain {
    private static final ObjectMapper JSON = new ObjectMapper();
    private static final OperatingSystemMXBean SYSTEM =
            (OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean();

    record Item(
            @JsonProperty("_id") JsonNode id,
            String sku,
            String name,
            String category,
            double price,
            int quantity,
            String status,
            String description,
            Double written) {}

    record Task(String row, String comparison, int contestant, String database, long time, long increment, long events) {}

    /** Begins where the backlog does: the connector knows only "now" and "where I was". */
    public static final class BacklogOffsets extends MemoryOffsetBackingStore {
        static Task task;

        @Override
        public void start() {
            super.start();
            String key = "[\"bench\",{\"server_id\":\"bench\"}]";
            String place = "{\"sec\":%d,\"ord\":%d,\"resume_token\":\"%s\"}";
            data.put(bytes(key), bytes(place.formatted(task.time(), task.increment(), token())));
        }

        /** The token of the time where the backlog begins. */
        private static String token() {
            try (MongoClient client = MongoClients.create(System.getenv("MONGODB_URI"))) {
                var time = new BsonTimestamp((int) task.time(), (int) task.increment());
                var stage = new Document("$changeStream", new Document("startAtOperationTime", time));
                var open = new Document("aggregate", "items")
                        .append("pipeline", List.of(stage))
                        .append("cursor", new Document("batchSize", 0));
                Document reply = client.getDatabase(task.database()).runCommand(open);
                return reply.getEmbedded(List.of("cursor", "postBatchResumeToken", "_data"), String.class);
            }
        }

        @Override
        public Set<Map<String, Object>> connectorPartitions(String connector) {
            return Set.of();
        }

        private static ByteBuffer bytes(String text) {
            return ByteBuffer.wrap(text.getBytes(StandardCharsets.UTF_8));
        }
    }

    /** What is measured, from the first event on. */
    static final class Count {
        private final long events;
        private final CountDownLatch all = new CountDownLatch(1);
        private final List<Double> ages = new ArrayList<>();
        private long seen;
        private long quantity;
        private long begin;
        private double beginTime;
        private long beginCpu;
        private double seconds;
        private double cpu;

        Count(long events) {
            this.events = events;
        }

        void begin() {
            if (begin == 0) {
                beginCpu = SYSTEM.getProcessCpuTime();
                begin = System.nanoTime();
                beginTime = now();
            }
        }

        void take(String document) {
            Item item = read(document, Item.class);
            if (item.written() != null) {
                if (item.written() < beginTime || seen == events) {
                    return;
                }
                ages.add(now() - item.written());
            }
            quantity += item.quantity();
            seen += 1;
            if (seen == events) {
                seconds = (System.nanoTime() - begin) / 1e9;
                cpu = (SYSTEM.getProcessCpuTime() - beginCpu) / 1e3;
                all.countDown();
            }
        }

        /** In microseconds since the Unix epoch. */
        private static double now() {
            Instant now = Instant.now();
            return now.getEpochSecond() * 1e6 + now.getNano() / 1e3;
        }

        /** How long ago the events of the second half were written. */
        Map<String, Double> fromWrite() {
            if (ages.isEmpty()) {
                return Map.of();
            }
            List<Double> half = ages.subList(ages.size() / 2, ages.size()).stream().sorted().toList();
            return Map.of(
                    "from_write_p50", half.get(half.size() * 50 / 100),
                    "from_write_p99", half.get(half.size() * 99 / 100));
        }
    }

    public static void main(String[] args) throws Exception {
        Task task = read(args[args.length - 1], Task.class);
        boolean tuned = args[0].equals("tuned");
        BacklogOffsets.task = task;
        if (!task.comparison().equals("peers-latency")) {
            drain(task, tuned);
        }
        Count count = drain(task, tuned);
        if (count.quantity != 7 * count.seen) {
            throw new IllegalStateException("a quantity of " + count.quantity);
        }
        Map<String, Double> figures = new HashMap<>(count.fromWrite());
        figures.put("events_per_second", task.events() / count.seconds);
        figures.put("client_cpu", count.cpu / task.events());
        figures.put("peak_memory", peakMemory());
        System.out.println(JSON.writeValueAsString(figures));
        System.exit(0);
    }

    private static Count drain(Task task, boolean tuned) throws Exception {
        Count count = new Count(task.events());
        DebeziumEngine<?> engine = tuned ? connect(task, count) : json(task, count);
        ExecutorService executor = Executors.newSingleThreadExecutor();
        executor.execute(engine);
        count.all.await();
        engine.close();
        executor.shutdown();
        return count;
    }

    private static DebeziumEngine<?> json(Task task, Count count) {
        return DebeziumEngine.create(Json.class)
                .using(properties(task))
                .notifying((events, committer) -> {
                    count.begin();
                    for (var event : events) {
                        if (event.value() != null) {
                            count.take(read(event.value(), JsonNode.class).at("/payload/after").asText());
                        }
                        committer.markProcessed(event);
                    }
                    committer.markBatchFinished();
                })
                .build();
    }

    private static DebeziumEngine<?> connect(Task task, Count count) {
        Properties properties = properties(task);
        properties.setProperty("poll.interval.ms", "5");
        properties.setProperty("max.batch.size", "8192");
        properties.setProperty("max.queue.size", "32768");
        properties.setProperty("cursor.max.await.time.ms", "100");
        properties.setProperty("capture.mode", "change_streams");
        return DebeziumEngine.create(Connect.class)
                .using(properties)
                .notifying((events, committer) -> {
                    count.begin();
                    for (var event : events) {
                        if (event.value().value() instanceof Struct value) {
                            count.take(value.getString("after"));
                        }
                        committer.markProcessed(event);
                    }
                    committer.markBatchFinished();
                })
                .build();
    }

    private static Properties properties(Task task) {
        Properties properties = new Properties();
        properties.setProperty("name", "bench");
        properties.setProperty("connector.class", "io.debezium.connector.mongodb.MongoDbConnector");
        properties.setProperty("offset.storage", BacklogOffsets.class.getName());
        properties.setProperty("mongodb.connection.string", System.getenv("MONGODB_URI"));
        properties.setProperty("topic.prefix", "bench");
        properties.setProperty("snapshot.mode", "no_data");
        properties.setProperty("collection.include.list", task.database() + ".items");
        return properties;
    }

    private static <T> T read(String json, Class<T> type) {
        try {
            return JSON.readValue(json, type);
        } catch (JsonProcessingException error) {
            throw new UncheckedIOException(error);
        }
    }

    private static double peakMemory() throws Exception {
        for (String line : Files.readAllLines(Path.of("/proc/self/status"))) {
            if (line.startsWith("VmHWM:")) {
                return Double.parseDouble(line.replaceAll("[^0-9]", "")) / 1024;
            }
        }
        throw new IllegalStateException("the kernel does not tell the memory of a process");
    }
}
