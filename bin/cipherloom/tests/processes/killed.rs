//! Parts that are killed at random instants while requests run: every request that was accepted is answered.

use std::time::Duration;

use cipherloom_chain::profile::DEVELOPMENT;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{
    deployment::{Deployment, Part, is_full, report},
    token::Bank,
};

/// How long an accepted request may take, restarts included.
const PATIENCE: Duration = Duration::from_secs(180);

/// Numbers that look random and follow from a seed.
struct Random(u64);

impl Random {
    fn from_environment() -> Self {
        let seed = std::env::var("CIPHERLOOM_E2E_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = seed.unwrap_or_else(|| u64::try_from(std::time::UNIX_EPOCH.elapsed().unwrap().as_millis()).unwrap() | 1);
        println!("CIPHERLOOM_E2E_SEED={seed} repeats this run");
        Self(seed)
    }

    fn below(&mut self, limit: u64) -> u64 {
        // xorshift64*
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % limit
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_accepted_request_is_answered_whatever_is_killed() {
    let mut random = Random::from_environment();
    let mut deployment = Deployment::start(&[DEVELOPMENT]).await;
    let bank = Bank::open(&deployment.chains[0], &deployment.gateway_url()).await;
    bank.mint(0, 1000).await;
    assert_eq!(bank.publish_supply().await, 1000);
    let rounds = if is_full() { 12 } else { 6 };
    let mut accepted = 0;
    for round in 0..rounds {
        let victim = Part::ALL[usize::try_from(random.below(3)).unwrap()];
        // A value that has to be computed first, so that requests wait for it while something is killed.
        bank.mint(0, 1).await;
        let supply = bank.make_supply_public().await;
        let mut jobs = Vec::new();
        // Each asks for something else, so that none shares another's job.
        for number in 0..8u8 {
            let body = json!({ "ciphertextHandles": vec![supply.to_string(); 1 + usize::from(number)], "extraData": "0x00" });
            if let Some(id) = submit(&deployment.gateway_url(), &body).await {
                jobs.push(id);
            }
        }
        assert_eq!(jobs.len(), 8, "round {round}: a gateway that runs accepts");
        accepted += jobs.len();
        tokio::time::sleep(Duration::from_millis(random.below(40))).await;
        deployment.kill(victim);
        tokio::time::sleep(Duration::from_millis(random.below(300))).await;
        deployment.spawn(victim);
        deployment.wait_for(victim);
        for id in jobs {
            let answer = poll(&deployment.gateway_url(), &id).await;
            assert_eq!(answer["status"], "succeeded", "round {round}, {victim:?} was killed: {answer}");
            let words = answer["result"]["decryptedValue"].as_str().unwrap();
            assert!(words.ends_with(&format!("{:064x}", 1001 + round)), "{words}");
        }
        // What was computed while something was killed can be read by its owner, too.
        assert_eq!(
            bank.balance(0, 0).await.unwrap(),
            1001 + round,
            "round {round}, {victim:?} was killed"
        );
    }
    report(
        "accepted requests answered after kills",
        &format!("{accepted} of {accepted}, {rounds} kills"),
    );
}

/// Posts a request; gives its job's id, or nothing if it was not accepted.
pub(crate) async fn submit(gateway_url: &str, body: &Value) -> Option<String> {
    let url = format!("{gateway_url}/v2/public-decrypt");
    let response = reqwest::Client::new().post(url).json(body).send().await.ok()?;
    if response.status() != 202 {
        return None;
    }
    let answer: Value = response.json().await.ok()?;
    Some(answer["result"]["jobId"].as_str()?.to_owned())
}

/// Polls a job until it has ended.
pub(crate) async fn poll(gateway_url: &str, id: &str) -> Value {
    let url = format!("{gateway_url}/v2/public-decrypt/{id}");
    let start = Instant::now();
    loop {
        assert!(start.elapsed() < PATIENCE, "job {id} is not answered");
        if let Ok(response) = reqwest::get(&url).await
            && response.status() != 202
        {
            return response.json().await.unwrap();
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_part_that_is_away_is_told_and_nothing_else_is_restarted_when_it_is_back() {
    let mut deployment = Deployment::prepare(&[DEVELOPMENT]).await;
    // Jobs give up soon, so that a part that is away shows.
    let config = std::fs::read_to_string(deployment.file("gateway.toml")).unwrap();
    std::fs::write(deployment.file("gateway.toml"), format!("retry-unreachable-seconds = 1\n{config}")).unwrap();
    for part in [Part::Coprocessor, Part::Kms, Part::Gateway] {
        deployment.spawn(part);
        deployment.wait_for(part);
    }
    let bank = Bank::open(&deployment.chains[0], &deployment.gateway_url()).await;
    bank.mint(0, 7).await;
    assert_eq!(bank.publish_supply().await, 7);
    let supply = bank.make_supply_public().await;
    for part in [Part::Kms, Part::Coprocessor] {
        deployment.kill(part);
        let handles = vec![supply.to_string(); if part == Part::Kms { 2 } else { 3 }];
        let body = json!({ "ciphertextHandles": handles, "extraData": "0x00" });
        let id = submit(&deployment.gateway_url(), &body).await.unwrap();
        let answer = poll(&deployment.gateway_url(), &id).await;
        assert_eq!(answer["error"]["label"], "gateway_not_reachable", "{part:?}: {answer}");
        deployment.spawn(part);
        deployment.wait_for(part);
        let id = submit(&deployment.gateway_url(), &body).await.unwrap();
        let answer = poll(&deployment.gateway_url(), &id).await;
        assert_eq!(answer["status"], "succeeded", "{part:?} is back: {answer}");
    }
}
