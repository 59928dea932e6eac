//! Jobs of gateways in PostgreSQL.
//!
//! Statements about jobs by number say `deployment IS NOT DISTINCT FROM`, and `answer IS NULL` for those that have not ended: no index serves
//! either. The server would take an equal sign, or the condition of the index of unfinished jobs, for an invitation to read all jobs there.

use sqlx::{PgPool, Row, postgres::PgRow};

use super::PostgresDatabase;
use crate::{
    ClaimedJob, GatewayJobs, JobEnd, JobId, JobLease, JobRecord, JobRetention, JobState, JobTotals, NewJob, StoreError, StoreFuture,
    SubmittedJob,
    columns::{hash, integer, job_id, number, text},
};

/// The jobs of one deployment.
pub(super) struct PostgresJobs {
    pool: PgPool,
    deployment: String,
}

impl PostgresJobs {
    pub(super) fn new(database: &PostgresDatabase, deployment: &str) -> Self {
        Self {
            pool: database.pool.clone(),
            deployment: text(deployment),
        }
    }
}

impl GatewayJobs for PostgresJobs {
    fn submit<'a>(&'a self, job: &'a NewJob<'a>, lease: JobLease<'a>) -> StoreFuture<'a, SubmittedJob> {
        Box::pin(submit(self, job, lease))
    }

    fn claim<'a>(&'a self, lease: JobLease<'a>, limit: u32) -> StoreFuture<'a, Vec<ClaimedJob>> {
        Box::pin(claim(self, lease, limit))
    }

    fn renew<'a>(&'a self, jobs: &'a [JobId], lease: JobLease<'a>) -> StoreFuture<'a, ()> {
        Box::pin(async move {
            sqlx::query(
                "UPDATE gateway_jobs SET lease_expires_at_ms = $4
                 WHERE id = ANY ($2) AND deployment IS NOT DISTINCT FROM $1 AND owner = $3 AND answer IS NULL",
            )
            .bind(&self.deployment)
            .bind(ids(jobs))
            .bind(text(lease.owner))
            .bind(integer("lease end", lease.until_ms)?)
            .execute(&self.pool)
            .await?;
            Ok(())
        })
    }

    fn release<'a>(&'a self, jobs: &'a [JobId], owner: &'a str) -> StoreFuture<'a, ()> {
        Box::pin(async move {
            sqlx::query(
                "UPDATE gateway_jobs SET owner = NULL, lease_expires_at_ms = 0, attempts = greatest(attempts - 1, 0)
                 WHERE id = ANY ($2) AND deployment IS NOT DISTINCT FROM $1 AND owner = $3 AND answer IS NULL",
            )
            .bind(&self.deployment)
            .bind(ids(jobs))
            .bind(text(owner))
            .execute(&self.pool)
            .await?;
            Ok(())
        })
    }

    fn finish<'a>(&'a self, job: JobId, owner: &'a str, end: JobEnd<'a>, now_ms: u64) -> StoreFuture<'a, bool> {
        Box::pin(async move {
            let (failed, answer) = match end {
                JobEnd::Succeeded(answer) => (false, answer),
                JobEnd::Failed(error) => (true, error),
            };
            let finished = sqlx::query(
                "UPDATE gateway_jobs SET request = NULL, owner = NULL, lease_expires_at_ms = 0, finished_at_ms = $4, failed = $5,
                     answer = $6, answer_bytes = length($6::BYTEA)
                 WHERE id = $2 AND deployment IS NOT DISTINCT FROM $1 AND answer IS NULL AND (NOT $5 OR owner = $3)",
            )
            .bind(&self.deployment)
            .bind(job.0.as_slice())
            .bind(text(owner))
            .bind(integer("time", now_ms)?)
            .bind(failed)
            .bind(answer)
            .execute(&self.pool)
            .await?;
            Ok(finished.rows_affected() == 1)
        })
    }

    fn find(&self, job: JobId) -> StoreFuture<'_, Option<JobRecord>> {
        Box::pin(async move {
            let row = sqlx::query(
                "SELECT operation, digest, owner, failed, answer, submitted_at_ms FROM gateway_jobs
                 WHERE id = $2 AND deployment IS NOT DISTINCT FROM $1",
            )
            .bind(&self.deployment)
            .bind(job.0.as_slice())
            .fetch_optional(&self.pool)
            .await?;
            row.as_ref().map(record).transpose()
        })
    }

    fn expire(&self, kept: JobRetention) -> StoreFuture<'_, u64> {
        Box::pin(async move {
            let expired = sqlx::query(
                "DELETE FROM gateway_jobs WHERE deployment IS NOT DISTINCT FROM $1 AND id = ANY (ARRAY(
                     SELECT id FROM (
                         SELECT id, finished_at_ms, row_number() OVER newest AS place, sum(answer_bytes) OVER newest AS bytes
                         FROM gateway_jobs WHERE deployment = $1 AND finished_at_ms IS NOT NULL
                         WINDOW newest AS (ORDER BY finished_at_ms DESC, id)) finished
                     WHERE finished_at_ms <= $2 OR place > $3 OR bytes > $4))",
            )
            .bind(&self.deployment)
            .bind(integer("time", kept.ended_after_ms)?)
            .bind(integer("number of jobs", kept.most)?)
            .bind(integer("size of answers", kept.most_bytes)?)
            .execute(&self.pool)
            .await?;
            Ok(expired.rows_affected())
        })
    }

    fn totals(&self) -> StoreFuture<'_, JobTotals> {
        Box::pin(async {
            let row = sqlx::query(
                "SELECT (SELECT count(*) FROM gateway_jobs WHERE deployment = $1 AND finished_at_ms IS NULL),
                        (SELECT count(*) FROM gateway_jobs WHERE deployment = $1 AND finished_at_ms IS NOT NULL)",
            )
            .bind(&self.deployment)
            .fetch_one(&self.pool)
            .await?;
            Ok(JobTotals {
                unfinished: number("number of jobs", row.try_get(0)?)?,
                finished: number("number of jobs", row.try_get(1)?)?,
            })
        })
    }

    fn clear(&self) -> StoreFuture<'_, ()> {
        Box::pin(async {
            // Each half by its own index: the server does not see that the two together are all.
            for statement in [
                "DELETE FROM gateway_jobs WHERE deployment = $1 AND finished_at_ms IS NULL",
                "DELETE FROM gateway_jobs WHERE deployment = $1 AND finished_at_ms IS NOT NULL",
            ] {
                sqlx::query(statement).bind(&self.deployment).execute(&self.pool).await?;
            }
            Ok(())
        })
    }
}

async fn submit(jobs: &PostgresJobs, job: &NewJob<'_>, lease: JobLease<'_>) -> Result<SubmittedJob, StoreError> {
    let (now_ms, until_ms) = (integer("time", lease.now_ms)?, integer("lease end", lease.until_ms)?);
    loop {
        let recorded = sqlx::query(
            "INSERT INTO gateway_jobs (id, deployment, operation, digest, request, owner, lease_expires_at_ms, attempts, submitted_at_ms)
             VALUES ($1, $2, $3, $4, $5, $6, $7, 1, $8) ON CONFLICT (deployment, operation, digest) WHERE NOT failed DO NOTHING",
        )
        .bind(job.id.0.as_slice())
        .bind(&jobs.deployment)
        .bind(job.operation)
        .bind(job.digest.as_slice())
        .bind(job.request)
        .bind(text(lease.owner))
        .bind(until_ms)
        .bind(now_ms)
        .execute(&jobs.pool)
        .await?;
        if recorded.rows_affected() == 1 {
            return Ok(SubmittedJob::New);
        }
        let known: Option<Vec<u8>> =
            sqlx::query_scalar("SELECT id FROM gateway_jobs WHERE deployment = $1 AND operation = $2 AND digest = $3 AND NOT failed")
                .bind(&jobs.deployment)
                .bind(job.operation)
                .bind(job.digest.as_slice())
                .fetch_optional(&jobs.pool)
                .await?;
        // It may have failed or expired between the two statements; then there is room for this one.
        if let Some(known) = known {
            return Ok(SubmittedJob::Known(job_id(&known)?));
        }
    }
}

async fn claim(jobs: &PostgresJobs, lease: JobLease<'_>, limit: u32) -> Result<Vec<ClaimedJob>, StoreError> {
    let rows = sqlx::query(
        "WITH claimed AS MATERIALIZED (
             SELECT id FROM gateway_jobs WHERE deployment = $1 AND finished_at_ms IS NULL AND lease_expires_at_ms <= $2
             ORDER BY lease_expires_at_ms LIMIT $3 FOR NO KEY UPDATE SKIP LOCKED)
         UPDATE gateway_jobs SET owner = $4, lease_expires_at_ms = $5, attempts = attempts + 1
         WHERE id = ANY (ARRAY(SELECT id FROM claimed)) AND deployment IS NOT DISTINCT FROM $1
         RETURNING id, operation, digest, request, attempts, submitted_at_ms",
    )
    .bind(&jobs.deployment)
    .bind(integer("time", lease.now_ms)?)
    .bind(i64::from(limit))
    .bind(text(lease.owner))
    .bind(integer("lease end", lease.until_ms)?)
    .fetch_all(&jobs.pool)
    .await?;
    rows.iter().map(claimed).collect()
}

fn claimed(row: &PgRow) -> Result<ClaimedJob, StoreError> {
    Ok(ClaimedJob {
        id: job_id(row.try_get("id")?)?,
        operation: row.try_get("operation")?,
        digest: hash("digest of a request", row.try_get("digest")?)?,
        request: row.try_get("request")?,
        attempts: u32::try_from(row.try_get::<i32, _>("attempts")?).unwrap_or(u32::MAX),
        submitted_at_ms: number("time of submission", row.try_get("submitted_at_ms")?)?,
    })
}

fn record(row: &PgRow) -> Result<JobRecord, StoreError> {
    let owner: Option<&str> = row.try_get("owner")?;
    let answer: Option<Vec<u8>> = row.try_get("answer")?;
    Ok(JobRecord {
        operation: row.try_get("operation")?,
        digest: hash("digest of a request", row.try_get("digest")?)?,
        state: match answer {
            Some(error) if row.try_get("failed")? => JobState::Failed(error),
            Some(answer) => JobState::Succeeded(answer),
            None if owner.is_some() => JobState::Running,
            None => JobState::Waiting,
        },
        submitted_at_ms: number("time of submission", row.try_get("submitted_at_ms")?)?,
    })
}

fn ids(jobs: &[JobId]) -> Vec<&[u8]> {
    jobs.iter().map(|job| job.0.as_slice()).collect()
}
