//! Source code verification by block explorers with an Etherscan-compatible API: Etherscan itself (its version 2 serves all its chains under one
//! URL), Blockscout and others.
//!
//! **Flow.** The sources are submitted as the compiler's standard JSON input, with the constructor's arguments; the explorer answers with a ticket,
//! compiles, and is asked about the ticket until it has a verdict. A proxy is announced in the same way, without sources. Submitting what is verified
//! already is no failure, so that a broken run is simply run again.

use std::time::Duration;

use alloy::{
    primitives::{Address, Bytes, hex},
    transports::http::reqwest::Url,
};
use serde::Deserialize;
use serde_json::Value;
use zeroize::Zeroizing;

use crate::{
    error::ChainError,
    https::{Answer, HttpsClient},
};

/// Where Etherscan's API for all its chains is.
pub const ETHERSCAN_URL: &str = "https://api.etherscan.io/v2/api";

/// How long one request may take; sources are some hundred kilobytes, and explorers are slow.
const REQUEST_LIMIT: Duration = Duration::from_secs(60);

/// The most of an explorer's words that reaches an error message.
const MAX_WORDS: usize = 300;

/// A key of an explorer's API.
pub struct ExplorerKey(Zeroizing<String>);

impl ExplorerKey {
    /// Takes a key as it was read.
    #[must_use]
    pub fn new(key: Zeroizing<String>) -> Self {
        Self(key)
    }
}

/// How patient submissions are.
#[derive(Clone, Copy, Debug)]
pub struct ExplorerPatience {
    /// The pause before asking again.
    pub pause: Duration,
    /// How often to ask in all.
    pub attempts: u32,
}

impl Default for ExplorerPatience {
    fn default() -> Self {
        Self {
            pause: Duration::from_secs(5),
            attempts: 60,
        }
    }
}

/// A contract whose sources are to be verified.
#[derive(Clone, Debug)]
pub struct Submission<'a> {
    /// Where it is.
    pub address: Address,
    /// `path/of/Source.sol:Name`.
    pub contract_name: &'a str,
    /// The compiler, such as `v0.8.29+commit.ab55807c`.
    pub compiler: &'a str,
    /// The compiler's standard JSON input.
    pub standard_json: &'a str,
    /// The constructor's arguments, ABI-encoded.
    pub constructor_arguments: &'a Bytes,
}

/// What an explorer made of a submission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It compiled the sources and got the code on chain.
    Verified,
    /// It had done so before.
    AlreadyVerified,
}

/// A block explorer's API for one chain.
pub struct Explorer {
    client: HttpsClient,
    url: Url,
    key: Option<ExplorerKey>,
    patience: ExplorerPatience,
}

/// What the API answers to everything.
#[derive(Deserialize)]
struct Envelope {
    status: String,
    #[serde(default)]
    message: String,
    #[serde(default)]
    result: Value,
}

/// What a refusal means.
enum Refusal {
    /// The contract was verified before.
    Done,
    /// Asking later may help.
    Later(String),
    /// It will not be otherwise.
    Final(String),
}

impl Explorer {
    /// Sets up calls to an explorer; nothing is sent yet.
    ///
    /// # Errors
    /// [`ChainError::Url`] if this is not an HTTP URL, [`ChainError::Tls`] if the system trusts nobody.
    pub fn new(url: &str, chain_id: u64, key: Option<ExplorerKey>, patience: ExplorerPatience) -> Result<Self, ChainError> {
        let mut url: Url = url.parse().map_err(|_| ChainError::Url(url.to_owned()))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(ChainError::Url(url.to_string()));
        }
        url.query_pairs_mut().append_pair("chainid", &chain_id.to_string());
        Ok(Self {
            client: HttpsClient::new(REQUEST_LIMIT).map_err(ChainError::Tls)?,
            url,
            key,
            patience,
        })
    }

    /// Has a contract's sources verified, and waits for the verdict.
    ///
    /// # Errors
    /// [`ChainError::Explorer`] with the explorer's words.
    pub async fn verify(&self, submission: &Submission<'_>) -> Result<Verdict, ChainError> {
        const WHAT: &str = "verifying sources";
        let address = submission.address.to_checksum(None);
        let arguments = hex::encode(submission.constructor_arguments);
        let form = [
            ("module", "contract"),
            ("action", "verifysourcecode"),
            ("codeformat", "solidity-standard-json-input"),
            ("contractaddress", &address),
            ("contractname", submission.contract_name),
            ("compilerversion", submission.compiler),
            ("sourceCode", submission.standard_json),
            // The first spelling is Etherscan's own; others have corrected it.
            ("constructorArguements", &arguments),
            ("constructorArguments", &arguments),
        ];
        self.submit(WHAT, &form, "checkverifystatus").await
    }

    /// Tells the explorer that a contract is a proxy of this implementation, so that it shows the implementation's functions.
    ///
    /// # Errors
    /// [`ChainError::Explorer`] with the explorer's words.
    pub async fn link_proxy(&self, proxy: Address, implementation: Address) -> Result<Verdict, ChainError> {
        const WHAT: &str = "linking a proxy";
        let (proxy, implementation) = (proxy.to_checksum(None), implementation.to_checksum(None));
        let form = [
            ("module", "contract"),
            ("action", "verifyproxycontract"),
            ("address", &*proxy),
            ("expectedimplementation", &*implementation),
        ];
        self.submit(WHAT, &form, "checkproxyverification").await
    }

    /// Submits a form until it is taken, and asks about the ticket until there is a verdict.
    async fn submit(&self, what: &'static str, form: &[(&str, &str)], status_action: &str) -> Result<Verdict, ChainError> {
        let mut left = self.patience.attempts;
        let ticket = loop {
            match accepted(self.post(what, form).await?) {
                Ok(ticket) => break ticket,
                Err(Refusal::Done) => return Ok(Verdict::AlreadyVerified),
                Err(refusal) => self.pause(what, refusal, &mut left).await?,
            }
        };
        loop {
            match accepted(self.ask(what, status_action, &ticket).await?) {
                Ok(_) => return Ok(Verdict::Verified),
                Err(Refusal::Done) => return Ok(Verdict::AlreadyVerified),
                Err(refusal) => self.pause(what, refusal, &mut left).await?,
            }
        }
    }

    /// Waits, unless the refusal is final or patience has run out.
    async fn pause(&self, what: &'static str, refusal: Refusal, left: &mut u32) -> Result<(), ChainError> {
        let (reason, is_retryable) = match refusal {
            Refusal::Done => return Ok(()),
            Refusal::Later(reason) => (reason, true),
            Refusal::Final(reason) => (reason, false),
        };
        *left = left.saturating_sub(1);
        if !is_retryable || *left == 0 {
            return Err(ChainError::Explorer {
                what,
                reason,
                is_retryable,
            });
        }
        tokio::time::sleep(self.patience.pause).await;
        Ok(())
    }

    async fn post(&self, what: &'static str, form: &[(&str, &str)]) -> Result<Envelope, ChainError> {
        let key = self.key.as_ref().map(|key| ("apikey", key.0.as_str()));
        let body = Zeroizing::new(encode(form.iter().copied().chain(key)));
        let body = bytes::Bytes::copy_from_slice(body.as_bytes());
        let answer = self
            .client
            .post(&self.url, "application/x-www-form-urlencoded", body)
            .await
            .map_err(|error| unreachable(what, &error.to_string()))?;
        envelope(what, &answer)
    }

    async fn ask(&self, what: &'static str, action: &str, ticket: &str) -> Result<Envelope, ChainError> {
        let mut url = self.url.clone();
        url.query_pairs_mut()
            .append_pair("module", "contract")
            .append_pair("action", action)
            .append_pair("guid", ticket);
        if let Some(key) = &self.key {
            url.query_pairs_mut().append_pair("apikey", &key.0);
        }
        let answer = self.client.get(&url).await.map_err(|error| unreachable(what, &error.to_string()))?;
        envelope(what, &answer)
    }
}

/// Sorts an answer: the ticket or verdict of an accepted request, or what its refusal means.
fn accepted(envelope: Envelope) -> Result<String, Refusal> {
    let words = match envelope.result {
        Value::String(words) => words,
        Value::Null => envelope.message,
        other => other.to_string(),
    };
    let lower = words.to_lowercase();
    let says = |parts: &[&str]| parts.iter().any(|part| lower.contains(part));
    if says(&["already verified"]) {
        Err(Refusal::Done)
    } else if says(&[
        "pending in queue",
        "in progress",
        "rate limit",
        "unable to locate",
        "not found at address",
        "please try again",
    ]) {
        // A contract that was just created is not known to every explorer at once.
        Err(Refusal::Later(shortened(&words)))
    } else if envelope.status == "1" {
        Ok(words)
    } else {
        Err(Refusal::Final(shortened(&words)))
    }
}

fn envelope(what: &'static str, answer: &Answer) -> Result<Envelope, ChainError> {
    serde_json::from_slice(&answer.body).map_err(|_| ChainError::Explorer {
        what,
        reason: format!(
            "status {} with something else than its API's answers: {}",
            answer.status,
            shortened(&String::from_utf8_lossy(&answer.body))
        ),
        is_retryable: answer.status >= 500 || answer.status == 429,
    })
}

fn unreachable(what: &'static str, reason: &str) -> ChainError {
    ChainError::Explorer {
        what,
        reason: reason.to_owned(),
        is_retryable: true,
    }
}

fn shortened(words: &str) -> String {
    words.chars().take(MAX_WORDS).collect()
}

/// Writes a form as browsers do.
fn encode<'a>(form: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let mut url = Url::parse("form:").expect("a scheme alone is a URL");
    url.query_pairs_mut().extend_pairs(form);
    url.query().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: &str, result: &str) -> Result<String, Refusal> {
        accepted(Envelope {
            status: status.to_owned(),
            message: "NOTOK".to_owned(),
            result: Value::String(result.to_owned()),
        })
    }

    #[test]
    fn the_explorers_words_are_understood() {
        assert!(answer("1", "ezq878u486pzijkvvmerl6a9mzwhv6sefgvqi5tkwceejc7tvn").is_ok());
        assert!(answer("1", "Pass - Verified").is_ok());
        for done in ["Contract source code already verified", "Already Verified"] {
            assert!(matches!(answer("0", done), Err(Refusal::Done)), "{done}");
        }
        for later in [
            "Pending in queue",
            "Max rate limit reached",
            "Unable to locate ContractCode at 0x00",
        ] {
            assert!(matches!(answer("0", later), Err(Refusal::Later(_))), "{later}");
        }
        for never in ["Fail - Unable to verify", "Invalid API Key"] {
            assert!(matches!(answer("0", never), Err(Refusal::Final(_))), "{never}");
        }
    }

    #[test]
    fn forms_are_encoded() {
        assert_eq!(
            encode([("a", "1 & 2"), ("b", "{\"c\":\"d\"}")].into_iter()),
            "a=1+%26+2&b=%7B%22c%22%3A%22d%22%7D"
        );
    }
}
