//! Jobs of gateways.

use std::{collections::BTreeSet, sync::Arc};

use cipherloom_primitives::B256;
use cipherloom_store::{
    Database, GatewayJobs, JobEnd, JobId, JobLease, JobRecord, JobRetention, JobState, JobTotals, NewJob, SubmittedJob,
};

use crate::fixture::{LEASE_MS, NOW_MS};

const REQUEST: &[u8] = b"a request";

/// Keeps everything.
const ALL: JobRetention = JobRetention {
    ended_after_ms: 0,
    most: 1_000,
    most_bytes: 1_000_000,
};

fn id(number: u8) -> JobId {
    JobId([number; 16])
}

fn job(number: u8, content: u8) -> NewJob<'static> {
    NewJob {
        id: id(number),
        operation: "public-decrypt",
        digest: B256::repeat_byte(content),
        request: REQUEST,
    }
}

fn lease(owner: &str, now_ms: u64) -> JobLease<'_> {
    JobLease {
        owner,
        now_ms,
        until_ms: now_ms + LEASE_MS,
    }
}

async fn submit(jobs: &dyn GatewayJobs, number: u8, content: u8) -> SubmittedJob {
    jobs.submit(&job(number, content), lease("one", NOW_MS)).await.unwrap()
}

async fn state(jobs: &dyn GatewayJobs, number: u8) -> Option<JobState> {
    jobs.find(id(number)).await.unwrap().map(|record| record.state)
}

async fn claimed(jobs: &dyn GatewayJobs, owner: &str, now_ms: u64) -> Vec<(JobId, u32)> {
    let claimed = jobs.claim(lease(owner, now_ms), 10).await.unwrap();
    let mut claimed: Vec<_> = claimed.iter().map(|job| (job.id, job.attempts)).collect();
    claimed.sort_unstable();
    claimed
}

pub(crate) async fn equal_requests_share_a_job_unless_it_failed(database: Arc<dyn Database>) {
    let jobs = database.gateway_jobs("main");
    assert_eq!(submit(jobs.as_ref(), 1, 7).await, SubmittedJob::New);
    assert_eq!(submit(jobs.as_ref(), 2, 7).await, SubmittedJob::Known(id(1)));
    let other_operation = NewJob {
        operation: "user-decrypt",
        ..job(3, 7)
    };
    assert_eq!(
        jobs.submit(&other_operation, lease("one", NOW_MS)).await.unwrap(),
        SubmittedJob::New
    );
    assert!(jobs.finish(id(1), "one", JobEnd::Succeeded(b"42"), NOW_MS + 1).await.unwrap());
    assert_eq!(submit(jobs.as_ref(), 2, 7).await, SubmittedJob::Known(id(1)));
    assert!(jobs.finish(id(3), "one", JobEnd::Failed(b"no"), NOW_MS + 1).await.unwrap());
    let again = NewJob {
        operation: "user-decrypt",
        ..job(4, 7)
    };
    assert_eq!(jobs.submit(&again, lease("one", NOW_MS)).await.unwrap(), SubmittedJob::New);
    // Both failed and running.
    assert_eq!(state(jobs.as_ref(), 3).await, Some(JobState::Failed(b"no".to_vec())));
    assert_eq!(state(jobs.as_ref(), 4).await, Some(JobState::Running));
}

pub(crate) async fn a_job_is_found_as_it_stands(database: Arc<dyn Database>) {
    let jobs = database.gateway_jobs("main");
    submit(jobs.as_ref(), 1, 7).await;
    let record = JobRecord {
        operation: "public-decrypt".to_owned(),
        digest: B256::repeat_byte(7),
        state: JobState::Running,
        submitted_at_ms: NOW_MS,
    };
    assert_eq!(jobs.find(id(1)).await.unwrap(), Some(record));
    jobs.release(&[id(1)], "one").await.unwrap();
    assert_eq!(state(jobs.as_ref(), 1).await, Some(JobState::Waiting));
    assert!(jobs.finish(id(1), "one", JobEnd::Succeeded(b""), NOW_MS).await.unwrap());
    assert_eq!(state(jobs.as_ref(), 1).await, Some(JobState::Succeeded(Vec::new())));
    assert_eq!(state(jobs.as_ref(), 2).await, None);
}

pub(crate) async fn gateways_that_submit_the_same_at_once_record_one_job(database: Arc<dyn Database>) {
    let jobs = database.gateway_jobs("main");
    for content in 0..20 {
        let submissions = (0..8).map(|number| {
            let jobs = Arc::clone(&jobs);
            tokio::spawn(async move {
                let owner = format!("gateway {number}");
                jobs.submit(&job(content * 8 + number, content), lease(&owner, NOW_MS))
                    .await
                    .unwrap()
            })
        });
        let mut new = 0;
        let mut known = BTreeSet::new();
        for (number, submitted) in futures_util::future::join_all(submissions).await.into_iter().enumerate() {
            match submitted.unwrap() {
                SubmittedJob::New => {
                    new += 1;
                    known.insert(id(content * 8 + u8::try_from(number).unwrap()));
                }
                SubmittedJob::Known(id) => drop(known.insert(id)),
            }
        }
        assert_eq!((new, known.len()), (1, 1));
    }
    assert_eq!(jobs.totals().await.unwrap().unfinished, 20);
}

pub(crate) async fn a_job_is_taken_up_when_its_lease_has_run_out(database: Arc<dyn Database>) {
    let jobs = database.gateway_jobs("main");
    submit(jobs.as_ref(), 1, 1).await;
    assert!(claimed(jobs.as_ref(), "two", NOW_MS + LEASE_MS - 1).await.is_empty());
    let taken = jobs.claim(lease("two", NOW_MS + LEASE_MS), 10).await.unwrap();
    assert_eq!(taken.len(), 1);
    assert_eq!(
        (taken[0].operation.as_str(), taken[0].request.as_slice(), taken[0].digest),
        ("public-decrypt", REQUEST, B256::repeat_byte(1))
    );
    assert_eq!((taken[0].attempts, taken[0].submitted_at_ms), (2, NOW_MS));
    assert!(claimed(jobs.as_ref(), "one", NOW_MS + LEASE_MS).await.is_empty());
    // A renewal of the former owner has no effect, one of the new owner has.
    let later = NOW_MS + 2 * LEASE_MS;
    jobs.renew(&[id(1)], lease("one", later)).await.unwrap();
    assert_eq!(claimed(jobs.as_ref(), "three", later).await, [(id(1), 3)]);
    jobs.renew(&[id(1)], lease("three", later + LEASE_MS)).await.unwrap();
    assert!(claimed(jobs.as_ref(), "four", later + LEASE_MS).await.is_empty());
}

pub(crate) async fn a_released_job_is_free_and_the_attempt_not_counted(database: Arc<dyn Database>) {
    let jobs = database.gateway_jobs("main");
    submit(jobs.as_ref(), 1, 1).await;
    submit(jobs.as_ref(), 2, 2).await;
    jobs.release(&[id(1), id(2)], "another").await.unwrap();
    assert!(claimed(jobs.as_ref(), "two", NOW_MS).await.is_empty());
    jobs.release(&[id(1)], "one").await.unwrap();
    assert_eq!(claimed(jobs.as_ref(), "two", NOW_MS).await, [(id(1), 1)]);
}

pub(crate) async fn the_first_answer_stays_and_an_error_needs_the_lease(database: Arc<dyn Database>) {
    let jobs = database.gateway_jobs("main");
    submit(jobs.as_ref(), 1, 1).await;
    submit(jobs.as_ref(), 2, 2).await;
    claimed(jobs.as_ref(), "two", NOW_MS + LEASE_MS).await;
    assert!(!jobs.finish(id(1), "one", JobEnd::Failed(b"cut off"), NOW_MS).await.unwrap());
    assert_eq!(state(jobs.as_ref(), 1).await, Some(JobState::Running));
    assert!(jobs.finish(id(1), "one", JobEnd::Succeeded(b"first"), NOW_MS).await.unwrap());
    assert!(!jobs.finish(id(1), "two", JobEnd::Succeeded(b"second"), NOW_MS).await.unwrap());
    assert!(!jobs.finish(id(1), "two", JobEnd::Failed(b"error"), NOW_MS).await.unwrap());
    assert_eq!(state(jobs.as_ref(), 1).await, Some(JobState::Succeeded(b"first".to_vec())));
    assert!(jobs.finish(id(2), "two", JobEnd::Failed(b"error"), NOW_MS).await.unwrap());
    assert!(!jobs.finish(id(2), "one", JobEnd::Succeeded(b"late"), NOW_MS).await.unwrap());
    assert_eq!(state(jobs.as_ref(), 2).await, Some(JobState::Failed(b"error".to_vec())));
    assert!(
        !jobs.finish(id(3), "one", JobEnd::Succeeded(b"?"), NOW_MS).await.unwrap(),
        "there is no such job"
    );
    // What has ended is nobody's to take up.
    assert!(claimed(jobs.as_ref(), "three", NOW_MS + 100 * LEASE_MS).await.is_empty());
}

pub(crate) async fn many_gateways_never_take_up_the_same_job(database: Arc<dyn Database>) {
    let jobs = database.gateway_jobs("main");
    for number in 0..60 {
        submit(jobs.as_ref(), number, number).await;
    }
    let gateways = (0..6).map(|number| {
        let jobs = Arc::clone(&jobs);
        tokio::spawn(async move {
            let owner = format!("gateway {number}");
            let mut taken = Vec::new();
            loop {
                let more = jobs.claim(lease(&owner, NOW_MS + LEASE_MS), 7).await.unwrap();
                if more.is_empty() {
                    return taken;
                }
                assert!(more.len() <= 7);
                taken.extend(more.into_iter().map(|job| job.id));
            }
        })
    });
    let taken: Vec<JobId> = futures_util::future::join_all(gateways)
        .await
        .into_iter()
        .flat_map(Result::unwrap)
        .collect();
    assert_eq!(taken.len(), 60);
    assert_eq!(taken.into_iter().collect::<BTreeSet<_>>().len(), 60);
}

pub(crate) async fn ended_jobs_expire_by_age_number_and_size(database: Arc<dyn Database>) {
    let jobs = database.gateway_jobs("main");
    for number in 1..=6 {
        submit(jobs.as_ref(), number, number).await;
    }
    for number in 1..=5 {
        let answer = vec![number; 10];
        assert!(
            jobs.finish(id(number), "one", JobEnd::Succeeded(&answer), NOW_MS + u64::from(number))
                .await
                .unwrap()
        );
    }
    assert_eq!(jobs.expire(ALL).await.unwrap(), 0);
    let young = JobRetention {
        ended_after_ms: NOW_MS + 1,
        ..ALL
    };
    assert_eq!(jobs.expire(young).await.unwrap(), 1);
    assert_eq!(state(jobs.as_ref(), 1).await, None);
    assert_eq!(jobs.expire(JobRetention { most: 3, ..ALL }).await.unwrap(), 1);
    assert_eq!(state(jobs.as_ref(), 2).await, None);
    assert_eq!(jobs.expire(JobRetention { most_bytes: 29, ..ALL }).await.unwrap(), 1);
    assert_eq!(state(jobs.as_ref(), 3).await, None);
    assert_eq!(state(jobs.as_ref(), 5).await, Some(JobState::Succeeded(vec![5; 10])));
    let totals = JobTotals {
        unfinished: 1,
        finished: 2,
    };
    assert_eq!(jobs.totals().await.unwrap(), totals);
    // What has not ended is never forgotten, and a forgotten request starts anew.
    jobs.expire(JobRetention { most: 0, ..ALL }).await.unwrap();
    assert_eq!(state(jobs.as_ref(), 6).await, Some(JobState::Running));
    assert_eq!(submit(jobs.as_ref(), 11, 1).await, SubmittedJob::New);
}

pub(crate) async fn deployments_see_nothing_of_each_others_jobs(database: Arc<dyn Database>) {
    let (main, other) = (database.gateway_jobs("main"), database.gateway_jobs("other"));
    submit(main.as_ref(), 1, 1).await;
    assert_eq!(submit(other.as_ref(), 2, 1).await, SubmittedJob::New);
    assert_eq!(state(other.as_ref(), 1).await, None);
    assert!(!other.finish(id(1), "one", JobEnd::Succeeded(b"?"), NOW_MS).await.unwrap());
    assert_eq!(claimed(other.as_ref(), "two", NOW_MS + LEASE_MS).await, [(id(2), 2)]);
    main.finish(id(1), "one", JobEnd::Succeeded(b"1"), NOW_MS).await.unwrap();
    other.expire(JobRetention { most: 0, ..ALL }).await.unwrap();
    other.clear().await.unwrap();
    assert_eq!(other.totals().await.unwrap(), JobTotals::default());
    assert_eq!(state(main.as_ref(), 1).await, Some(JobState::Succeeded(b"1".to_vec())));
}
