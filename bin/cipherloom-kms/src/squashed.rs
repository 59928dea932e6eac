//! Noise-squashed ciphertexts for a party, from the coprocessors of a chain, each in another process.
//!
//! None of them is trusted. Coprocessors that work right give the same bytes, so their attestations add up; a coprocessor that gives other bytes, or lies
//! about a handle, is outvoted, and the party checks the attestations against the chain in any case. A slow or dead coprocessor is not waited for when enough
//! others gave the same bytes.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use alloy::primitives::keccak256;
use cipherloom_kms::{SignedSquashed, SourceError, SquashedSource};
use cipherloom_primitives::{
    B256, Bytes, Handle,
    eip712::{recover_signer, squashed_ciphertext_attestation_digest},
};
use cipherloom_service::coprocessor::RemoteCoprocessor;
use futures_util::{StreamExt as _, future::BoxFuture, stream::FuturesUnordered};

use crate::ciphertexts::{Vouched, vouched};

/// How long coprocessors are asked to wait for a value. What takes longer is asked for again, and goes on meanwhile.
pub const WAIT: Duration = Duration::from_secs(30);

/// The most attestations taken from one coprocessor: its own, and some that it may have gathered.
const MAX_ATTESTATIONS_OF_ONE: usize = 8;

/// A place that may have a squashed ciphertext.
pub trait OneCoprocessor: Send + Sync {
    /// Asks for it, waiting at most this long.
    fn squashed(&self, handle: Handle, at_most: Duration) -> BoxFuture<'_, Result<SignedSquashed, SourceError>>;
}

impl OneCoprocessor for RemoteCoprocessor {
    fn squashed(&self, handle: Handle, at_most: Duration) -> BoxFuture<'_, Result<SignedSquashed, SourceError>> {
        Box::pin(async move {
            let Vouched {
                handle,
                key_set_id,
                bytes,
                attestations,
            } = vouched(self.squashed_ciphertext(handle, at_most).await)?;
            Ok(SignedSquashed {
                handle,
                key_set_id,
                bytes,
                attestations,
            })
        })
    }
}

/// The squashed ciphertexts of a chain's coprocessors.
pub struct RemoteSquashed {
    coprocessors: Vec<Arc<dyn OneCoprocessor>>,
    enough: usize,
    wait: Duration,
}

impl RemoteSquashed {
    /// Asks these coprocessors, and is content when this many of them gave the same bytes: as many as the chain wants attestations of. If there are not so many,
    /// it waits for all.
    #[must_use]
    pub fn new(coprocessors: Vec<Arc<dyn OneCoprocessor>>, enough: usize) -> Self {
        Self {
            enough: enough.clamp(1, coprocessors.len().max(1)),
            coprocessors,
            wait: WAIT,
        }
    }

    /// Has coprocessors wait this long.
    #[must_use]
    pub const fn waiting(mut self, wait: Duration) -> Self {
        self.wait = wait;
        self
    }

    async fn gather(&self, handle: Handle) -> Result<SignedSquashed, SourceError> {
        let mut asked: FuturesUnordered<_> = self
            .coprocessors
            .iter()
            .map(|coprocessor| coprocessor.squashed(handle, self.wait))
            .collect();
        let (mut votes, mut refusals) = (Votes::default(), Vec::new());
        while let Some(answer) = asked.next().await {
            match answer.and_then(|answer| votes.count(handle, answer)) {
                Ok(agreeing) if agreeing >= self.enough => break,
                Ok(_) => {}
                Err(error) => refusals.push(error),
            }
        }
        // With too few that agree the party refuses the best there is, and says how many attest it.
        votes.best().ok_or_else(|| why_none(refusals, self.enough))
    }
}

impl SquashedSource for RemoteSquashed {
    fn squashed(&self, handle: Handle) -> BoxFuture<'_, Result<SignedSquashed, SourceError>> {
        Box::pin(self.gather(handle))
    }
}

/// Answers by what they say.
#[derive(Default)]
struct Votes {
    groups: HashMap<(B256, B256), Group>,
}

/// Answers that say the same.
struct Group {
    answer: SignedSquashed,
    coprocessors: usize,
    signers: BTreeSet<[u8; 20]>,
}

impl Votes {
    /// Counts an answer, and says how many coprocessors said the same so far.
    fn count(&mut self, asked: Handle, answer: SignedSquashed) -> Result<usize, SourceError> {
        if answer.handle != asked {
            return Err(SourceError::Unavailable(format!("it answered about {}", answer.handle)));
        }
        let digest = keccak256(&answer.bytes);
        let attested = squashed_ciphertext_attestation_digest(asked, answer.key_set_id, digest);
        let signed: Vec<(Bytes, [u8; 20])> = answer
            .attestations
            .iter()
            .take(MAX_ATTESTATIONS_OF_ONE)
            .filter_map(|signature| Some((signature.clone(), *recover_signer(attested, signature)?.0)))
            .collect();
        if signed.is_empty() {
            return Err(SourceError::Unavailable("it attests nothing".to_owned()));
        }
        let group = self.groups.entry((answer.key_set_id, digest)).or_insert_with(|| Group {
            answer: SignedSquashed {
                attestations: Vec::new(),
                ..answer
            },
            coprocessors: 0,
            signers: BTreeSet::new(),
        });
        group.coprocessors += 1;
        for (signature, signer) in signed {
            if group.signers.insert(signer) {
                group.answer.attestations.push(signature);
            }
        }
        Ok(group.coprocessors)
    }

    /// Returns what most coprocessors said, with the attestations of all of these.
    fn best(self) -> Option<SignedSquashed> {
        let best = self
            .groups
            .into_values()
            .max_by_key(|group| (group.coprocessors, group.signers.len()));
        best.map(|group| group.answer)
    }
}

/// Says why nobody gave anything. That it can never be computed counts only if as many say so as would have been enough.
fn why_none(refusals: Vec<SourceError>, enough: usize) -> SourceError {
    let failed: Vec<&SourceError> = refusals.iter().filter(|error| matches!(error, SourceError::Failed(_))).collect();
    if failed.len() >= enough
        && let Some(first) = failed.first()
    {
        return SourceError::clone(first);
    }
    if refusals.contains(&SourceError::NotReady) {
        return SourceError::NotReady;
    }
    if refusals.contains(&SourceError::Unknown) {
        return SourceError::Unknown;
    }
    let reasons: Vec<String> = refusals.iter().map(ToString::to_string).collect();
    match reasons.is_empty() {
        true => SourceError::Unavailable("no coprocessor is known".to_owned()),
        false => SourceError::Unavailable(reasons.join("; ")),
    }
}

#[cfg(test)]
mod tests {
    use alloy::signers::{SignerSync as _, local::PrivateKeySigner};
    use cipherloom_primitives::FheType;

    use super::*;

    const KEY_SET: B256 = B256::repeat_byte(7);

    fn handle() -> Handle {
        Handle::computed(B256::repeat_byte(1), 31337, FheType::Uint64)
    }

    /// A coprocessor that always answers the same.
    struct Says(Result<SignedSquashed, SourceError>);

    impl OneCoprocessor for Says {
        fn squashed(&self, _: Handle, _: Duration) -> BoxFuture<'_, Result<SignedSquashed, SourceError>> {
            let answer = self.0.clone();
            Box::pin(async move { answer })
        }
    }

    /// A coprocessor that never answers.
    struct Silent;

    impl OneCoprocessor for Silent {
        fn squashed(&self, _: Handle, _: Duration) -> BoxFuture<'_, Result<SignedSquashed, SourceError>> {
            Box::pin(std::future::pending())
        }
    }

    fn attestation(signer: u8, bytes: &[u8]) -> Bytes {
        let digest = squashed_ciphertext_attestation_digest(handle(), KEY_SET, keccak256(bytes));
        let signer = PrivateKeySigner::from_bytes(&B256::repeat_byte(signer)).unwrap();
        Bytes::copy_from_slice(&signer.sign_hash_sync(&digest).unwrap().as_bytes())
    }

    fn answer(bytes: &[u8], attestations: Vec<Bytes>) -> SignedSquashed {
        SignedSquashed {
            handle: handle(),
            key_set_id: KEY_SET,
            bytes: bytes.to_vec(),
            attestations,
        }
    }

    fn honest(signer: u8) -> Arc<dyn OneCoprocessor> {
        Arc::new(Says(Ok(answer(b"right", vec![attestation(signer, b"right")]))))
    }

    async fn ask(coprocessors: Vec<Arc<dyn OneCoprocessor>>, enough: usize) -> Result<SignedSquashed, SourceError> {
        RemoteSquashed::new(coprocessors, enough).squashed(handle()).await
    }

    #[tokio::test]
    async fn attestations_over_equal_bytes_add_up_and_count_once() {
        let both = answer(b"right", vec![attestation(2, b"right"), attestation(1, b"right")]);
        let found = ask(vec![honest(1), Arc::new(Says(Ok(both)))], 2).await.unwrap();
        assert_eq!(found.bytes, b"right");
        assert_eq!(found.attestations.len(), 2);
    }

    #[tokio::test]
    async fn a_silent_coprocessor_is_not_waited_for_when_enough_agree() {
        let found = ask(vec![Arc::new(Silent), honest(1), honest(2)], 2).await.unwrap();
        assert_eq!(found.attestations.len(), 2);
    }

    #[tokio::test]
    async fn a_liar_is_outvoted_however_many_signatures_it_brings() {
        let many = (10..40).map(|signer| attestation(signer, b"wrong")).collect();
        let liar = || Arc::new(Says(Ok(answer(b"wrong", Vec::clone(&many)))));
        let found = ask(vec![liar(), honest(1), honest(2)], 2).await.unwrap();
        assert_eq!(found.bytes, b"right");
        let alone = ask(vec![liar()], 1).await.unwrap();
        assert_eq!(alone.attestations.len(), MAX_ATTESTATIONS_OF_ONE);
    }

    #[tokio::test]
    async fn what_is_not_attested_or_about_another_handle_does_not_count() {
        let unsigned = answer(b"right", vec![Bytes::from_static(&[1; 65])]);
        let other = SignedSquashed {
            handle: Handle::computed(B256::repeat_byte(2), 31337, FheType::Uint64),
            ..answer(b"right", vec![attestation(1, b"right")])
        };
        let found = ask(vec![Arc::new(Says(Ok(unsigned))), Arc::new(Says(Ok(other)))], 2).await;
        assert!(matches!(found, Err(SourceError::Unavailable(_))), "{found:?}");
    }

    #[tokio::test]
    async fn one_coprocessor_cannot_say_alone_that_a_value_failed() {
        let says = |error: SourceError| Arc::new(Says(Err(error))) as Arc<dyn OneCoprocessor>;
        let failed = || says(SourceError::Failed("an operand".to_owned()));
        let found = ask(vec![failed(), says(SourceError::NotReady), says(SourceError::Unknown)], 2).await;
        assert_eq!(found.unwrap_err(), SourceError::NotReady);
        let found = ask(vec![failed(), failed(), says(SourceError::Unknown)], 2).await;
        assert!(matches!(found, Err(SourceError::Failed(_))));
        assert!(matches!(ask(Vec::new(), 1).await, Err(SourceError::Unavailable(_))));
    }
}
