//! Workers that are killed while they compute, on a database that several share.

use std::time::{Duration, Instant};

use cipherloom_load::{Deployment, Process, Random, Role};

use crate::{
    ground::{Ground, Rows, Source},
    scale,
};

const WORKERS: usize = 4;

/// The part of the work that each of three tenants has.
const PARTS: [usize; 3] = [4, 2, 1];

/// How many transactions of each tenant were done, and could be leased, at a moment.
#[derive(Clone, Copy, Debug)]
struct Sample {
    done: [usize; 3],
    runnable: [usize; 3],
}

impl Sample {
    fn take(rows: &Rows<'_>, done_before: [usize; 3]) -> Self {
        let text = rows.ask(
            "SELECT tenant_id, count(*) FILTER (WHERE state = 'done'),
                    count(*) FILTER (WHERE state = 'pending' AND waits_for = 0 AND lease_owner IS NULL)
             FROM transactions GROUP BY tenant_id ORDER BY tenant_id",
        );
        let mut sample = Self {
            done: [0; 3],
            runnable: [0; 3],
        };
        for (tenant, line) in text.lines().enumerate() {
            let numbers: Vec<usize> = line.split('|').map(|number| number.parse().unwrap()).collect();
            sample.done[tenant] = numbers[1] - done_before[tenant];
            sample.runnable[tenant] = numbers[2];
        }
        sample
    }
}

/// Kills a worker of four every so often, and starts another in its place, until told to stop.
async fn kill_and_replace(
    deployment: &Deployment,
    workers: &mut [Process],
    every: Duration,
    random: &mut Random,
    mut look: impl FnMut() -> bool,
) -> usize {
    let (mut kills, mut last) = (0, Instant::now());
    while look() {
        if last.elapsed() >= every {
            let victim = random.below(workers.len());
            let fresh = deployment.start(Role::Worker, &[]).unwrap();
            std::mem::replace(&mut workers[victim], fresh).kill().unwrap();
            kills += 1;
            last = Instant::now();
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    kills
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_workers_lose_nothing_compute_nothing_twice_and_serve_tenants_alike() {
    let seed = scale::seed();
    let mut random = Random::from_seed(seed);
    let total = scale::of(20_000, 1_500);
    let every = scale::of(Duration::from_secs(2), Duration::from_millis(700));
    let (ground, rows) = Ground::on_postgres(3);
    let server = ground.deployment.start(Role::Server, &[]).unwrap();
    let mut sources: Vec<Source> = (0..3).map(|tenant| ground.source(tenant, &server, seed)).collect();
    for (source, part) in sources.iter_mut().zip(PARTS) {
        source.open(&ground.clear.keys).await.unwrap();
        source.feed(total * part / PARTS.iter().sum::<usize>()).await.unwrap();
    }
    let before = Sample::take(&rows, [0; 3]);
    assert_eq!(before.done, [0; 3], "nobody computes yet");

    let mut workers: Vec<Process> = (0..WORKERS).map(|_| ground.deployment.start(Role::Worker, &[]).unwrap()).collect();
    let mut samples = Vec::new();
    let reader = async {
        for source in &mut sources {
            source.await_all().await.unwrap();
        }
    };
    let killer = kill_and_replace(&ground.deployment, &mut workers, every, &mut random, || {
        samples.push(Sample::take(&rows, before.done));
        rows.count("SELECT count(*) FROM transactions WHERE state = 'pending'") > 0
    });
    let ((), kills) = tokio::join!(reader, killer);
    assert!(kills > 0, "the work was over before a worker was killed");

    // What came out is still that, for a server that knows nothing of before.
    drop(server);
    let server = ground.deployment.start(Role::Server, &[]).unwrap();
    let (mut transactions, mut results) = (0, 0);
    for (tenant, source) in sources.iter_mut().enumerate() {
        source.client = ground.source(tenant, &server, seed).client;
        source.check_again().await.unwrap();
        transactions += source.transactions;
        results += source.ledger.values().len();
    }
    rows.check_all_done(transactions, results);
    for worker in &mut workers {
        worker.check_running().unwrap();
    }
    check_shares(&samples);
    scale::report(
        "killed workers",
        &format!("{transactions} transactions, {results} results, {kills} kills: all present, right, once"),
    );
}

/// While all tenants had work, each must have got at least half of an equal share.
///
/// Tenants with the fewest live leases go first, so shares are equal but for two things: a killed worker's leases stay live until they expire, and
/// count for their tenant although nobody computes; and a tenant may have little that can run because its transactions wait for each other.
/// Half leaves room for both. Without turns, the tenants would get shares of their backlogs (4 : 2 : 1, so that the smallest got 3/7 of an equal
/// share), or the first one everything.
fn check_shares(samples: &[Sample]) {
    let busy = samples.iter().take_while(|sample| sample.runnable.iter().all(|count| *count > 0));
    let last = busy.last().expect("all tenants have work at the start");
    let sum: usize = last.done.iter().sum();
    assert!(sum >= 60, "too little was done while all had work to speak of shares: {samples:?}");
    let least = last.done.iter().min().copied().unwrap_or_default();
    assert!(least * 6 >= sum, "a tenant got less than half of an equal share: {last:?}");
    #[expect(clippy::cast_precision_loss, reason = "thousands")]
    let percent = last.done.map(|done| format!("{:.0} %", 100.0 * done as f64 / sum as f64));
    scale::report(
        "fair share",
        &format!("{} of {sum} transactions while all had work (bound: 17 % each)", percent.join(", ")),
    );
}
