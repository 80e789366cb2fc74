-- The history. Each row is one record of a topic, under its position; nothing
-- is ever updated or deleted. `record` holds the record's value as it is in
-- Kafka, so that every other column can be derived from it again.
--
-- A row must arrive before its insert_before: an INSERT that wakes up later,
-- after its outcome was settled without it, is refused.
--
-- Times before 1900 or after 2262-04-11 23:47:16 stand as these bounds.
--
-- A record that cannot be decoded is a row too, with decode_error: positions
-- have no gaps.

CREATE TABLE IF NOT EXISTS events
(
    topic LowCardinality(String),
    partition Int32,
    offset Int64,
    recorded_at DateTime64(3, 'UTC') COMMENT 'broker time',
    tenant LowCardinality(String),
    subject String,
    purpose LowCardinality(String),
    action LowCardinality(String),
    event_id Nullable(UUID),
    interaction_id Nullable(UUID),
    request_id Nullable(UUID),
    property LowCardinality(String),
    occurred_at Nullable(DateTime64(3, 'UTC')) COMMENT 'the subject acted, as claimed',
    sent_at Nullable(DateTime64(3, 'UTC')),
    received_at Nullable(DateTime64(3, 'UTC')) COMMENT 'the gateway accepted it',
    effective_at Nullable(DateTime64(3, 'UTC')) COMMENT 'holds from here on',
    channel LowCardinality(String),
    source LowCardinality(String),
    jurisdiction LowCardinality(String),
    notice_id LowCardinality(String),
    notice_version LowCardinality(String),
    notice_language LowCardinality(String),
    notice_sha256 String COMMENT 'hex',
    evidence_method LowCardinality(String),
    evidence_control LowCardinality(String),
    evidence_control_default LowCardinality(String),
    evidence_bundled Bool,
    evidence_conditional Bool,
    evidence_gpc Bool,
    evidence_reference String,
    evidence_page_url String,
    evidence_user_agent String,
    evidence_ip String,
    evidence_tc_string String,
    evidence_gpp_string String,
    evidence_token String,
    actor_type LowCardinality(String),
    actor_id String,
    policy_version LowCardinality(String),
    policy_model LowCardinality(String),
    policy_legal_basis LowCardinality(String),
    policy_scope LowCardinality(String),
    policy_sale_or_share Bool,
    policy_expires_at Nullable(DateTime64(3, 'UTC')),
    policy_double_opt_in Bool,
    policy_confirm_by Nullable(DateTime64(3, 'UTC')),
    policy_history_import Bool,
    policy_covers Array(LowCardinality(String)),
    confirms_event_id Nullable(UUID) COMMENT 'the grant that a confirm completes',
    confirms_effective_at Nullable(DateTime64(3, 'UTC')),
    invalidates_event_id Nullable(UUID) COMMENT 'the grant that an invalidate takes back',
    invalidates_effective_at Nullable(DateTime64(3, 'UTC')),
    link_to String,
    carried_subject String,
    carried_event_id Nullable(UUID),
    carried_effective_at Nullable(DateTime64(3, 'UTC')),
    carried_via Array(String),
    test Bool,
    digest String COMMENT 'hex; SHA-256 of the content without sent_at and received_at',
    key String,
    record String,
    decode_error LowCardinality(String),
    insert_before DateTime('UTC'),
    CONSTRAINT in_time CHECK nowInBlock() < insert_before
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(recorded_at)
ORDER BY (tenant, subject, recorded_at, topic, partition, offset)
SETTINGS non_replicated_deduplication_window = 20000, fsync_after_insert = 1, fsync_part_directory = 1;

CREATE TABLE IF NOT EXISTS changes
(
    topic LowCardinality(String),
    partition Int32,
    offset Int64,
    recorded_at DateTime64(3, 'UTC') COMMENT 'broker time',
    tenant LowCardinality(String),
    subject String,
    purpose LowCardinality(String),
    change_id Nullable(UUID),
    from_status LowCardinality(String),
    to_status LowCardinality(String),
    allowed_before Nullable(Bool) COMMENT 'null: a default decided',
    allowed_after Nullable(Bool) COMMENT 'null: a default decides',
    withdrawal Bool,
    effective_at Nullable(DateTime64(3, 'UTC')),
    event_id Nullable(UUID),
    version Int64,
    timestamp Nullable(DateTime64(3, 'UTC')),
    received_at Nullable(DateTime64(3, 'UTC')) COMMENT 'of the event: deadlines count from it',
    jurisdiction LowCardinality(String),
    test Bool,
    key String,
    record String,
    decode_error LowCardinality(String),
    insert_before DateTime('UTC'),
    CONSTRAINT in_time CHECK nowInBlock() < insert_before
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(recorded_at)
ORDER BY (tenant, subject, recorded_at, topic, partition, offset)
SETTINGS non_replicated_deduplication_window = 20000, fsync_after_insert = 1, fsync_part_directory = 1;

CREATE TABLE IF NOT EXISTS deliveries
(
    topic LowCardinality(String),
    partition Int32,
    offset Int64,
    recorded_at DateTime64(3, 'UTC') COMMENT 'broker time',
    tenant LowCardinality(String),
    subject String,
    purpose LowCardinality(String),
    delivery_id Nullable(UUID),
    change_id Nullable(UUID),
    version Int64,
    withdrawal Bool,
    downstream LowCardinality(String),
    webhook_id String,
    attempt Int32,
    started_at Nullable(DateTime64(3, 'UTC')),
    duration_millis Int32,
    outcome LowCardinality(String),
    http_status Int32,
    reason LowCardinality(String),
    next_attempt_at Nullable(DateTime64(3, 'UTC')),
    deadline_at Nullable(DateTime64(3, 'UTC')),
    change_received_at Nullable(DateTime64(3, 'UTC')),
    test Bool,
    key String,
    record String,
    decode_error LowCardinality(String),
    insert_before DateTime('UTC'),
    CONSTRAINT in_time CHECK nowInBlock() < insert_before
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(recorded_at)
ORDER BY (tenant, subject, recorded_at, topic, partition, offset)
SETTINGS non_replicated_deduplication_window = 20000, fsync_after_insert = 1, fsync_part_directory = 1;

CREATE TABLE IF NOT EXISTS deadletters
(
    topic LowCardinality(String),
    partition Int32,
    offset Int64,
    recorded_at DateTime64(3, 'UTC') COMMENT 'broker time',
    origin_topic LowCardinality(String),
    origin_partition Int32,
    origin_offset Int64,
    code LowCardinality(String),
    reason String,
    role LowCardinality(String),
    downstream LowCardinality(String),
    at Nullable(DateTime64(3, 'UTC')),
    origin_key String COMMENT 'the bytes of the record that could not be used',
    origin_value String,
    origin_header_keys Array(String),
    origin_header_values Array(String),
    partial Bool COMMENT 'something of key, value or headers did not fit',
    key String,
    record String,
    decode_error LowCardinality(String),
    insert_before DateTime('UTC'),
    CONSTRAINT in_time CHECK nowInBlock() < insert_before
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(recorded_at)
ORDER BY (origin_topic, origin_partition, origin_offset, topic, partition, offset)
SETTINGS non_replicated_deduplication_window = 20000, fsync_after_insert = 1, fsync_part_directory = 1;

-- The history as people read it: each content of an event once, however often
-- it was written; conflicting where one event_id came with several contents.
CREATE VIEW IF NOT EXISTS events_deduplicated AS
SELECT *, event_id IS NOT NULL AND count() OVER (PARTITION BY tenant, event_id) > 1 AS conflicting
FROM
(
    SELECT *
    FROM events
    WHERE decode_error = ''
    ORDER BY recorded_at, topic, partition, offset
    LIMIT 1 BY tenant, event_id, digest
);

CREATE VIEW IF NOT EXISTS changes_deduplicated AS
SELECT *
FROM changes
WHERE decode_error = ''
ORDER BY recorded_at, topic, partition, offset
LIMIT 1 BY tenant, change_id;

CREATE VIEW IF NOT EXISTS deliveries_deduplicated AS
SELECT *
FROM deliveries
WHERE decode_error = ''
ORDER BY recorded_at, topic, partition, offset
LIMIT 1 BY tenant, delivery_id;
