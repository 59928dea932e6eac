//! Publishing what a tenant has.

use std::{sync::Arc, time::Duration};

use alloy::signers::local::PrivateKeySigner;
use cipherloom_primitives::{B256, CiphertextForm, Handle};
use cipherloom_store::{PublicPlace, PublicationRequest, PublishedCiphertext, Store, StoredCiphertext};
use futures_util::{StreamExt, stream};

use super::{CiphertextRecord, MirrorError, manifest};
use crate::Clock;

/// How many values are listed, published and marked at a time.
const BATCH: u32 = 256;

/// How many values are on their way at a time; their bytes are all that is held in memory.
const CONCURRENT: usize = 16;

/// How long a claim lasts. One batch takes less, however slow the place is: requests have limits.
const CLAIM: Duration = Duration::from_secs(600);

/// Publishes the packed ciphertexts of a tenant to a mirror, signed.
pub struct Publisher {
    chain_id: u64,
    store: Arc<dyn Store>,
    place: Arc<dyn PublicPlace>,
    signer: PrivateKeySigner,
    owner: String,
    clock: Clock,
}

/// What a publisher did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Published {
    /// How many values it published.
    pub values: usize,
    /// Whether it stopped at the limit and there may be more.
    pub more: bool,
    /// Whether it stopped because another process publishes for the tenant.
    pub busy: bool,
}

/// What became of a listed value.
enum Outcome {
    Published {
        ciphertext: PublishedCiphertext,
        key_set_id: B256,
    },
    /// It is not there any more, as after a reorganisation of the chain.
    Gone,
    Failed(Handle, MirrorError),
}

impl Publisher {
    /// Puts a publisher together; nothing happens yet. `owner` names this process among those that share the database, and no other has it.
    #[must_use]
    pub fn new(
        chain_id: u64,
        store: Arc<dyn Store>,
        place: Arc<dyn PublicPlace>,
        signer: PrivateKeySigner,
        owner: String,
        clock: Clock,
    ) -> Self {
        Self {
            chain_id,
            store,
            place,
            signer,
            owner,
            clock,
        }
    }

    /// Publishes what can be published now, unless another process does so: at most this many batches.
    ///
    /// # Errors
    /// The first failure of a value, after all others were tried; [`MirrorError::Place`] if the database or the manifest fail. A value that
    /// failed is tried again by the next call.
    pub async fn publish(&self, at_most_batches: usize) -> Result<Published, MirrorError> {
        let published = self.publish_claimed(at_most_batches).await;
        if !matches!(published, Ok(Published { busy: true, .. })) {
            self.release().await?;
        }
        published
    }

    async fn publish_claimed(&self, at_most_batches: usize) -> Result<Published, MirrorError> {
        let mut request = PublicationRequest {
            chain_id: self.chain_id,
            after: None,
            limit: BATCH,
        };
        let mut key_sets: Vec<B256> = Vec::new();
        let (mut values, mut failure) = (0usize, None);
        let (mut more, mut busy) = (true, false);
        for _ in 0..at_most_batches {
            let handles = if self.claim(CLAIM).await? {
                self.store.ciphertexts_to_publish(&request).await?
            } else {
                busy = true;
                Vec::new()
            };
            let Some(last) = handles.last() else {
                more = false;
                break;
            };
            request.after = Some(*last);
            let outcomes: Vec<Outcome> = stream::iter(handles.into_iter().map(|handle| self.publish_one(handle)))
                .buffer_unordered(CONCURRENT)
                .collect()
                .await;
            let (mut done, mut new_key_sets) = (Vec::new(), Vec::new());
            for outcome in outcomes {
                match outcome {
                    Outcome::Published { ciphertext, key_set_id } => {
                        if !key_sets.contains(&key_set_id) {
                            key_sets.push(key_set_id);
                            new_key_sets.push(key_set_id);
                        }
                        done.push(ciphertext);
                    }
                    Outcome::Gone => {}
                    Outcome::Failed(handle, error) => {
                        tracing::warn!(%handle, %error, "a ciphertext could not be published");
                        failure.get_or_insert(error);
                    }
                }
            }
            if !new_key_sets.is_empty() {
                manifest::add(self.place.as_ref(), self.chain_id, self.signer.address(), &new_key_sets).await?;
            }
            self.store.mark_published(&done).await?;
            values = values.saturating_add(done.len());
        }
        match failure {
            Some(error) => Err(error),
            None => Ok(Published { values, more, busy }),
        }
    }

    /// Ends this process's claim, if it has one, so that another one can go on at once. If the database fails, the claim ends by its time.
    ///
    /// # Errors
    /// [`MirrorError::Place`] if the database fails.
    pub async fn release(&self) -> Result<(), MirrorError> {
        self.claim(Duration::ZERO).await?;
        Ok(())
    }

    async fn claim(&self, duration: Duration) -> Result<bool, MirrorError> {
        let now_ms = (self.clock)();
        let until_ms = now_ms.saturating_add(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX));
        Ok(self.store.claim_publishing(self.chain_id, &self.owner, now_ms, until_ms).await?)
    }

    async fn publish_one(&self, handle: Handle) -> Outcome {
        match self.put(handle).await {
            Ok(Some(stored)) => Outcome::Published {
                ciphertext: PublishedCiphertext {
                    handle,
                    digest: stored.digest,
                },
                key_set_id: stored.key_set_id,
            },
            Ok(None) => Outcome::Gone,
            Err(error) => Outcome::Failed(handle, error),
        }
    }

    /// Puts the bytes, then the record that refers to them.
    async fn put(&self, handle: Handle) -> Result<Option<StoredCiphertext>, MirrorError> {
        let stored = match self.store.ciphertext(handle).await? {
            Some(stored) if stored.form == CiphertextForm::Packed => stored,
            _ => return Ok(None),
        };
        // The record's digest is that of the bytes that are published, whatever the database says they are.
        let record = CiphertextRecord::sign(handle, stored.key_set_id, &stored.bytes, &self.signer)?;
        record_fits(&record, &stored)?;
        self.place.put(stored.digest, &stored.bytes).await?;
        let name = CiphertextRecord::document_name(handle, record.signer);
        self.place.put_document(&name, &record.to_document()?).await?;
        Ok(Some(StoredCiphertext {
            bytes: Vec::new(),
            ..stored
        }))
    }
}

/// Refuses to vouch for bytes that were damaged in the database.
fn record_fits(record: &CiphertextRecord, stored: &StoredCiphertext) -> Result<(), MirrorError> {
    if record.digest == stored.digest {
        return Ok(());
    }
    Err(MirrorError::OtherBytes {
        expected: stored.digest,
        expected_bytes: record.size_bytes,
        found: record.digest,
        size_bytes: record.size_bytes,
    })
}

impl std::fmt::Debug for Publisher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Publisher")
            .field("chain_id", &self.chain_id)
            .field("signer", &self.signer.address())
            .field("owner", &self.owner)
            .finish_non_exhaustive()
    }
}
