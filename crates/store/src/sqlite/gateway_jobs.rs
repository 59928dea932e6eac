//! Jobs of gateways in SQLite.

use sqlx::{Row, SqlitePool, sqlite::SqliteRow};

use super::{SqliteStore, begin};
use crate::{
    ClaimedJob, GatewayJobs, JobEnd, JobId, JobLease, JobRecord, JobRetention, JobState, JobTotals, NewJob, StoreError, StoreFuture,
    SubmittedJob,
    columns::{hash, integer, job_id, number},
};

/// The jobs of one deployment.
pub(super) struct SqliteJobs {
    store: SqliteStore,
    deployment: String,
}

impl SqliteJobs {
    pub(super) fn new(store: &SqliteStore, deployment: &str) -> Self {
        Self {
            store: store.clone(),
            deployment: deployment.to_owned(),
        }
    }

    /// Changes the leases that an owner has on some jobs, all or none. The statement's parameters are the owner, the deployment, the job
    /// and the end of the lease.
    async fn change_leases(&self, statement: &'static str, jobs: &[JobId], owner: &str, until_ms: u64) -> Result<(), StoreError> {
        let until_ms = integer("lease end", until_ms)?;
        let mut transaction = begin(&self.store.writer).await?;
        for job in jobs {
            sqlx::query(statement)
                .bind(owner)
                .bind(&self.deployment)
                .bind(job.0.as_slice())
                .bind(until_ms)
                .execute(&mut *transaction)
                .await?;
        }
        transaction.commit().await?;
        Ok(())
    }
}

impl GatewayJobs for SqliteJobs {
    fn submit<'a>(&'a self, job: &'a NewJob<'a>, lease: JobLease<'a>) -> StoreFuture<'a, SubmittedJob> {
        Box::pin(submit(self, job, lease))
    }

    fn claim<'a>(&'a self, lease: JobLease<'a>, limit: u32) -> StoreFuture<'a, Vec<ClaimedJob>> {
        Box::pin(claim(self, lease, limit))
    }

    fn renew<'a>(&'a self, jobs: &'a [JobId], lease: JobLease<'a>) -> StoreFuture<'a, ()> {
        Box::pin(self.change_leases(
            "UPDATE gateway_jobs SET lease_expires_at_ms = ?4 WHERE deployment = ?2 AND id = ?3 AND owner = ?1 AND finished_at_ms IS NULL",
            jobs,
            lease.owner,
            lease.until_ms,
        ))
    }

    fn release<'a>(&'a self, jobs: &'a [JobId], owner: &'a str) -> StoreFuture<'a, ()> {
        Box::pin(self.change_leases(
            "UPDATE gateway_jobs SET owner = NULL, lease_expires_at_ms = ?4, attempts = max(attempts - 1, 0)
             WHERE deployment = ?2 AND id = ?3 AND owner = ?1 AND finished_at_ms IS NULL",
            jobs,
            owner,
            0,
        ))
    }

    fn finish<'a>(&'a self, job: JobId, owner: &'a str, end: JobEnd<'a>, now_ms: u64) -> StoreFuture<'a, bool> {
        Box::pin(async move {
            let (failed, answer) = match end {
                JobEnd::Succeeded(answer) => (false, answer),
                JobEnd::Failed(error) => (true, error),
            };
            let finished = sqlx::query(
                "UPDATE gateway_jobs SET request = NULL, owner = NULL, lease_expires_at_ms = 0, finished_at_ms = ?4, failed = ?5,
                     answer = ?6, answer_bytes = length(?6)
                 WHERE deployment = ?1 AND id = ?2 AND finished_at_ms IS NULL AND (NOT ?5 OR owner = ?3)",
            )
            .bind(&self.deployment)
            .bind(job.0.as_slice())
            .bind(owner)
            .bind(integer("time", now_ms)?)
            .bind(failed)
            .bind(answer)
            .execute(&self.store.writer)
            .await?;
            Ok(finished.rows_affected() == 1)
        })
    }

    fn find(&self, job: JobId) -> StoreFuture<'_, Option<JobRecord>> {
        Box::pin(async move {
            let row = sqlx::query(
                "SELECT operation, digest, owner, failed, answer, submitted_at_ms FROM gateway_jobs WHERE deployment = ? AND id = ?",
            )
            .bind(&self.deployment)
            .bind(job.0.as_slice())
            .fetch_optional(&self.store.readers)
            .await?;
            row.as_ref().map(record).transpose()
        })
    }

    fn expire(&self, kept: JobRetention) -> StoreFuture<'_, u64> {
        Box::pin(async move {
            let (oldest, most) = (integer("time", kept.ended_after_ms)?, integer("number of jobs", kept.most)?);
            let most_bytes = integer("size of answers", kept.most_bytes)?;
            // What there is to forget is read first: mostly nothing, and reading does not hold up those who write.
            let expired: Vec<Vec<u8>> = sqlx::query_scalar(
                "SELECT id FROM (
                     SELECT id, finished_at_ms, row_number() OVER newest AS place, sum(answer_bytes) OVER newest AS bytes
                     FROM gateway_jobs WHERE deployment = ?1 AND finished_at_ms IS NOT NULL
                     WINDOW newest AS (ORDER BY finished_at_ms DESC, id))
                 WHERE finished_at_ms <= ?2 OR place > ?3 OR bytes > ?4",
            )
            .bind(&self.deployment)
            .bind(oldest)
            .bind(most)
            .bind(most_bytes)
            .fetch_all(&self.store.readers)
            .await?;
            if !expired.is_empty() {
                delete(&self.store.writer, &self.deployment, &expired).await?;
            }
            Ok(u64::try_from(expired.len()).unwrap_or(u64::MAX))
        })
    }

    fn totals(&self) -> StoreFuture<'_, JobTotals> {
        Box::pin(async {
            let row = sqlx::query(
                "SELECT (SELECT count(*) FROM gateway_jobs WHERE deployment = ?1 AND finished_at_ms IS NULL),
                        (SELECT count(*) FROM gateway_jobs WHERE deployment = ?1 AND finished_at_ms IS NOT NULL)",
            )
            .bind(&self.deployment)
            .fetch_one(&self.store.readers)
            .await?;
            Ok(JobTotals {
                unfinished: number("number of jobs", row.try_get(0)?)?,
                finished: number("number of jobs", row.try_get(1)?)?,
            })
        })
    }

    fn clear(&self) -> StoreFuture<'_, ()> {
        Box::pin(async {
            sqlx::query("DELETE FROM gateway_jobs WHERE deployment = ?")
                .bind(&self.deployment)
                .execute(&self.store.writer)
                .await?;
            Ok(())
        })
    }
}

/// Ends the leases of a process that had the data file before.
pub(super) async fn end_leases(writer: &SqlitePool) -> Result<(), StoreError> {
    sqlx::query("UPDATE gateway_jobs SET owner = NULL, lease_expires_at_ms = 0 WHERE finished_at_ms IS NULL AND owner IS NOT NULL")
        .execute(writer)
        .await?;
    Ok(())
}

async fn submit(jobs: &SqliteJobs, job: &NewJob<'_>, lease: JobLease<'_>) -> Result<SubmittedJob, StoreError> {
    let (now_ms, until_ms) = (integer("time", lease.now_ms)?, integer("lease end", lease.until_ms)?);
    loop {
        let recorded = sqlx::query(
            "INSERT INTO gateway_jobs (id, deployment, operation, digest, request, owner, lease_expires_at_ms, attempts, submitted_at_ms)
             VALUES (?, ?, ?, ?, ?, ?, ?, 1, ?) ON CONFLICT (deployment, operation, digest) WHERE failed = 0 DO NOTHING",
        )
        .bind(job.id.0.as_slice())
        .bind(&jobs.deployment)
        .bind(job.operation)
        .bind(job.digest.as_slice())
        .bind(job.request)
        .bind(lease.owner)
        .bind(until_ms)
        .bind(now_ms)
        .execute(&jobs.store.writer)
        .await?;
        if recorded.rows_affected() == 1 {
            return Ok(SubmittedJob::New);
        }
        let known: Option<Vec<u8>> =
            sqlx::query_scalar("SELECT id FROM gateway_jobs WHERE deployment = ? AND operation = ? AND digest = ? AND failed = 0")
                .bind(&jobs.deployment)
                .bind(job.operation)
                .bind(job.digest.as_slice())
                .fetch_optional(&jobs.store.readers)
                .await?;
        // It may have failed or expired between the two statements; then there is room for this one.
        if let Some(known) = known {
            return Ok(SubmittedJob::Known(job_id(&known)?));
        }
    }
}

async fn claim(jobs: &SqliteJobs, lease: JobLease<'_>, limit: u32) -> Result<Vec<ClaimedJob>, StoreError> {
    let (now_ms, until_ms) = (integer("time", lease.now_ms)?, integer("lease end", lease.until_ms)?);
    // Mostly there is nothing to take up, and looking costs no write.
    let any: bool = sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM gateway_jobs WHERE deployment = ? AND finished_at_ms IS NULL AND lease_expires_at_ms <= ?)",
    )
    .bind(&jobs.deployment)
    .bind(now_ms)
    .fetch_one(&jobs.store.readers)
    .await?;
    if !any {
        return Ok(Vec::new());
    }
    let rows = sqlx::query(
        "UPDATE gateway_jobs SET owner = ?4, lease_expires_at_ms = ?5, attempts = attempts + 1
         WHERE deployment = ?1 AND id IN (
             SELECT id FROM gateway_jobs WHERE deployment = ?1 AND finished_at_ms IS NULL AND lease_expires_at_ms <= ?2
             ORDER BY lease_expires_at_ms LIMIT ?3)
         RETURNING id, operation, digest, request, attempts, submitted_at_ms",
    )
    .bind(&jobs.deployment)
    .bind(now_ms)
    .bind(i64::from(limit))
    .bind(lease.owner)
    .bind(until_ms)
    .fetch_all(&jobs.store.writer)
    .await?;
    rows.iter().map(claimed).collect()
}

async fn delete(writer: &SqlitePool, deployment: &str, jobs: &[Vec<u8>]) -> Result<(), StoreError> {
    let mut transaction = begin(writer).await?;
    for job in jobs {
        sqlx::query("DELETE FROM gateway_jobs WHERE deployment = ? AND id = ?")
            .bind(deployment)
            .bind(job.as_slice())
            .execute(&mut *transaction)
            .await?;
    }
    transaction.commit().await?;
    Ok(())
}

fn claimed(row: &SqliteRow) -> Result<ClaimedJob, StoreError> {
    Ok(ClaimedJob {
        id: job_id(row.try_get("id")?)?,
        operation: row.try_get("operation")?,
        digest: hash("digest of a request", row.try_get("digest")?)?,
        request: row.try_get("request")?,
        attempts: u32::try_from(row.try_get::<i64, _>("attempts")?).unwrap_or(u32::MAX),
        submitted_at_ms: number("time of submission", row.try_get("submitted_at_ms")?)?,
    })
}

fn record(row: &SqliteRow) -> Result<JobRecord, StoreError> {
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
