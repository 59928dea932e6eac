-- Jobs of gateways. The gateways of a deployment share them.

CREATE TABLE gateway_jobs (
    id                  BYTEA   PRIMARY KEY CHECK (length(id) = 16),
    deployment          TEXT    NOT NULL CHECK (length(deployment) BETWEEN 1 AND 128),
    operation           TEXT    NOT NULL,
    digest              BYTEA   NOT NULL CHECK (length(digest) = 32),
    request             BYTEA,                      -- kept until the job ends
    owner               TEXT,                       -- who runs it
    lease_expires_at_ms BIGINT  NOT NULL DEFAULT 0, -- milliseconds since the Unix epoch; 0 if nobody runs it
    attempts            INTEGER NOT NULL,
    submitted_at_ms     BIGINT  NOT NULL,
    finished_at_ms      BIGINT,
    failed              BOOLEAN NOT NULL DEFAULT FALSE,
    answer              BYTEA,
    answer_bytes        BIGINT  NOT NULL DEFAULT 0,
    CHECK ((finished_at_ms IS NULL) = (request IS NOT NULL)),
    CHECK ((finished_at_ms IS NULL) = (answer IS NULL)),
    CHECK (owner IS NULL OR finished_at_ms IS NULL)
);
CREATE UNIQUE INDEX gateway_jobs_by_content ON gateway_jobs (deployment, operation, digest) WHERE NOT failed;
CREATE INDEX unfinished_gateway_jobs ON gateway_jobs (deployment, lease_expires_at_ms) WHERE finished_at_ms IS NULL;
CREATE INDEX finished_gateway_jobs ON gateway_jobs (deployment, finished_at_ms DESC, id) INCLUDE (answer_bytes) WHERE finished_at_ms IS NOT NULL;
