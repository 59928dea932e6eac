//! The KMS of the 0.6 generation: it vouches for inputs and encrypts values to users' keys.
//!
//! The same rules as for users of today: whoever asks through a gateway is believed nothing. What is checked before a value is decrypted:
//!
//! 1. The request's shape: a handle of a type there is, a user who is not the contract, a key that keeps a secret.
//! 2. The user's signature over key and contract ("Authorization token"); or that of an account for which the request stands
//!    (`delegatedAccount`), which the access-control contract must then name as let to read on the user's behalf.
//! 3. On chain: the access-control contract allows the handle to user and contract, for good.
//! 4. The coprocessor's signature over handle and ciphertext.
//! 5. The audit log has it on disk; only then the answer is sealed and leaves.
//!
//! That generation's permits have no window and no invalidation: whoever has once seen a signature may ask again for as long as the ACL allows, but
//! the answer is readable with the key that was signed, and no other.
//!
//! An input is vouched for once its proof was checked against contract, user, access-control contract and chain: here, or by the coprocessor, whose
//! signature says so ([`InputCheck`]).
//!
//! Source: the 0.6 generation's interface, sections 4.6, 4.7, 5.3 and 5.4.

use std::sync::Arc;

use alloy_primitives::keccak256;
use cipherloom_fhe::{Decrypt, FheBackend, FheError};
use cipherloom_primitives::{
    Address, B256, Bytes, FheType, Handle, U256,
    eip712::recover_signer,
    generation_0_6::{ReencryptionRequest, VERSION, VerifiedList, reencryption_digest, served_ciphertext_digest},
    input::InputMetadata,
};
use cipherloom_signcryption::{
    SigncryptionError,
    generation_0_6::{BoxKey, BoxRandomness, ReencryptionAnswer, ReencryptionContext, ciphertext_digest, seal_reencryption},
    sign_digest,
};
use futures_util::future::BoxFuture;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::{
    audit::{AuditEntry, AuditLog, DecryptionKind},
    checks::request_digest,
    error::KmsError,
    node::KmsLimits,
    ports::{ChainViewError, Clock, SourceError},
    signing_key::NodeKey,
};

/// The 0.6 generation's contracts of a chain, and who may attest ciphertexts: that generation has one coprocessor, whose address is compiled into
/// the contracts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LegacySite {
    /// The chain.
    pub chain_id: u64,
    /// The access-control contract.
    pub acl: Address,
    /// The contract that knows the KMS's signers.
    pub kms_verifier: Address,
    /// The contract that knows the coprocessor's signer.
    pub input_verifier: Address,
    /// The coprocessor's signer.
    pub coprocessor: Address,
}

/// The access-control contract of the 0.6 generation. Answers come from the chain itself, through an endpoint the operator of the node trusts.
pub trait LegacyChainView: Send + Sync {
    /// Asks whether an account may use a handle for good (`persistAllowed`).
    fn persist_allowed(&self, handle: B256, account: Address) -> BoxFuture<'_, Result<bool, ChainViewError>>;
    /// Asks whether an account may read on behalf of another one through a contract (`allowedOnBehalf`, which includes that the other one and the
    /// contract may use the handle).
    fn allowed_on_behalf(
        &self,
        delegatee: Address,
        handle: B256,
        contract: Address,
        account: Address,
    ) -> BoxFuture<'_, Result<bool, ChainViewError>>;
}

/// Where ciphertexts come from. It is not trusted.
pub trait LegacyCiphertexts: Send + Sync {
    /// Returns the ciphertext behind a handle, without waiting for it to be computed.
    fn ciphertext(&self, handle: B256) -> BoxFuture<'_, Result<ServedCiphertext, SourceError>>;
}

/// Who checks the proofs of inputs.
#[derive(Clone)]
pub enum InputCheck {
    /// This node does, under the same key set.
    Proof(Arc<dyn FheBackend>),
    /// The coprocessor does. It is trusted with no more than it is anyway: that a ciphertext is the one behind a handle, and so one whose proof held.
    Coprocessor,
}

/// An input that the coprocessor has admitted.
#[derive(Clone, Debug)]
pub struct AdmittedList {
    /// The list with its proof.
    pub list: Bytes,
    /// The contract that will consume it.
    pub contract: Address,
    /// The account that will send it.
    pub user: Address,
    /// The handles that the coprocessor signed.
    pub handles: Vec<B256>,
    /// The coprocessor's signature over list and handles, 65 bytes.
    pub signature: Bytes,
}

/// A ciphertext as the coprocessor serves it.
#[derive(Clone, Debug)]
pub struct ServedCiphertext {
    /// In packed form.
    pub bytes: Bytes,
    /// The coprocessor's signature over handle and bytes, 65 bytes.
    pub signature: Bytes,
}

/// Why a request of the 0.6 generation is refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LegacyError {
    /// The handle is none of that generation, or of a type that is not computed with here.
    #[error("{0} is not a handle of a supported type of the 0.6 generation")]
    Handle(B256),
    /// The user's key cannot be encrypted to.
    #[error("{0}")]
    Key(SigncryptionError),
    /// The user and the contract are the same.
    #[error("user and contract must not be the same account")]
    UserIsContract,
    /// Neither the user has signed nor an account that may read on the user's behalf.
    #[error("the request is not signed by {0} for this chain, contract and key, nor by an account that may read on its behalf")]
    Signature(Address),
    /// The account may not read the handle.
    #[error("account {account} is not allowed to read handle {handle}")]
    NotAllowed {
        /// The handle.
        handle: B256,
        /// The user or contract without permission.
        account: Address,
    },
    /// The ciphertext is not there yet.
    #[error("the ciphertext of handle {0} is not ready yet; try again")]
    NotReady(B256),
    /// The ciphertext will not come, or is not what the coprocessor vouches for.
    #[error("the ciphertext of handle {handle} cannot be used: {reason}")]
    Ciphertext {
        /// The handle.
        handle: B256,
        /// Why.
        reason: String,
    },
    /// The proof of an input does not hold, or the list is none.
    #[error("the input is refused: {0}")]
    Input(FheError),
    /// The coprocessor has not signed the input, or other handles than the list has.
    #[error("the input is not signed by the coprocessor {0}")]
    InputSignature(Address),
}

impl LegacyError {
    /// Returns the label of the error, in the words of today.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Handle(_) | Self::Key(_) | Self::UserIsContract | Self::Signature(_) | Self::Input(_) => "request_error",
            Self::NotAllowed { .. } => "not_allowed_on_host_acl",
            Self::NotReady(_) => "not_ready_for_decryption",
            Self::Ciphertext { .. } | Self::InputSignature(_) => "internal_server_error",
        }
    }
}

/// What a node is made of.
pub struct LegacyKmsParts {
    /// The secret key's side of the key set.
    pub decrypt: Arc<dyn Decrypt>,
    /// Who checks the proofs of inputs.
    pub inputs: InputCheck,
    /// What answers are signed with.
    pub signing_key: NodeKey,
    /// Chain and contracts.
    pub site: LegacySite,
    /// The access-control contract.
    pub chain: Arc<dyn LegacyChainView>,
    /// Where ciphertexts come from.
    pub ciphertexts: Arc<dyn LegacyCiphertexts>,
    /// Where decryptions are recorded.
    pub audit: AuditLog,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// How much the node does at once.
    pub limits: KmsLimits,
}

/// A centralised KMS node for clients of the 0.6 generation.
pub struct LegacyKms {
    shared: Arc<LegacyKmsParts>,
    requests: Semaphore,
    work: Arc<Semaphore>,
}

impl LegacyKms {
    /// Builds a node. Nothing is read yet.
    #[must_use]
    pub fn new(parts: LegacyKmsParts) -> Self {
        Self {
            requests: Semaphore::new(parts.limits.requests.max(1)),
            work: Arc::new(Semaphore::new(parts.limits.decryptions.max(1))),
            shared: Arc::new(parts),
        }
    }

    /// Returns the address that answers recover to; `KMSVerifier` must know it.
    #[must_use]
    pub fn address(&self) -> Address {
        self.shared.signing_key.address()
    }

    /// Vouches for an input that the coprocessor has admitted.
    ///
    /// # Errors
    /// [`LegacyError::InputSignature`] if the coprocessor has not signed it, [`LegacyError::Input`] if its proof is checked here and does not hold.
    pub async fn vouch(&self, input: AdmittedList) -> Result<[u8; 65], KmsError> {
        let _turn = self.admit()?;
        self.blocking(move |shared| {
            let LegacySite {
                chain_id,
                acl,
                kms_verifier,
                input_verifier,
                coprocessor,
            } = shared.site;
            let AdmittedList {
                list,
                contract,
                user,
                handles,
                signature,
            } = input;
            let mut verified = VerifiedList {
                hash: keccak256(&list),
                handles,
                acl,
                user,
                contract,
            };
            if recover_signer(verified.digest(chain_id, input_verifier), &signature) != Some(coprocessor) {
                return Err(LegacyError::InputSignature(coprocessor).into());
            }
            if let InputCheck::Proof(backend) = &shared.inputs {
                let metadata = InputMetadata {
                    contract,
                    user,
                    acl,
                    chain_id,
                };
                let types = backend.verify_input(&list, &metadata).map_err(LegacyError::Input)?.types;
                let signed = std::mem::take(&mut verified.handles);
                verified = VerifiedList::new(&list, &types, chain_id, acl, user, contract).ok_or(KmsError::Task)?;
                if verified.handles != signed {
                    return Err(LegacyError::InputSignature(coprocessor).into());
                }
            }
            sign_digest(shared.signing_key.signing_key(), verified.kms_digest(chain_id, kms_verifier)).map_err(KmsError::Sealing)
        })
        .await
    }

    /// Encrypts a value to the key of a user who proves by a signature to want it, and may have it.
    ///
    /// # Errors
    /// [`KmsError`]; its methods say what to tell the requester.
    pub async fn reencrypt(&self, request: ReencryptionRequest) -> Result<ReencryptionAnswer, KmsError> {
        let _turn = self.admit()?;
        let ty = handle_type(request.handle)?;
        let key = BoxKey::from_sent(&request.public_key).map_err(LegacyError::Key)?;
        if request.user == request.contract {
            return Err(LegacyError::UserIsContract.into());
        }
        let requester = self.check_signature(&request).await?;
        self.check_allowed(&request).await?;
        let ciphertext = self.ciphertext(request.handle).await?;
        let shared = &self.shared;
        let entry = AuditEntry {
            time: shared.clock.now_seconds(),
            kind: if requester == request.user {
                DecryptionKind::User
            } else {
                DecryptionKind::Delegated
            },
            requester: Some(requester),
            owners: if requester == request.user {
                Vec::new()
            } else {
                vec![request.user]
            },
            // The log knows handles of today; the one that the coprocessor keeps the value under is derived from the name alone.
            handles: vec![Handle::named(request.handle.as_slice(), shared.site.chain_id, ty)],
            request: request_digest(&request)?,
            share: None,
        };
        let chain_id = shared.site.chain_id;
        self.blocking(move |shared| {
            let value = decrypt(shared, request.handle, ty, &ciphertext)?;
            // On disk before anything leaves: an answer without a record must not exist.
            shared.audit.append(entry)?;
            let context = ReencryptionContext {
                // Clients do not know of accounts that sign for others when they check what an answer is bound to.
                request: reencryption_digest(chain_id, request.contract, key.sent(), None),
                user: request.user,
                key: &key,
                ciphertext_digest: ciphertext_digest(&ciphertext),
            };
            let randomness = BoxRandomness::generate().map_err(KmsError::Sealing)?;
            seal_reencryption(&context, ty, value, shared.signing_key.signing_key(), &randomness).map_err(KmsError::Sealing)
        })
        .await
    }

    fn admit(&self) -> Result<SemaphorePermit<'_>, KmsError> {
        self.requests.try_acquire().map_err(|_| KmsError::Overloaded)
    }

    /// Returns who signed: the user, or an account that the access-control contract lets read on the user's behalf.
    async fn check_signature(&self, request: &ReencryptionRequest) -> Result<Address, KmsError> {
        let recovered = |on_behalf_of| {
            let digest = reencryption_digest(self.shared.site.chain_id, request.contract, &request.public_key, on_behalf_of);
            recover_signer(digest, &request.signature)
        };
        if recovered(None) == Some(request.user) {
            return Ok(request.user);
        }
        // Any signature recovers to some account, so this one counts only if the contract names it.
        let delegatee = recovered(Some(request.user)).ok_or(LegacyError::Signature(request.user))?;
        let (user, handle, contract) = (request.user, request.handle, request.contract);
        if self.shared.chain.allowed_on_behalf(delegatee, handle, contract, user).await? {
            return Ok(delegatee);
        }
        Err(LegacyError::Signature(user).into())
    }

    async fn check_allowed(&self, request: &ReencryptionRequest) -> Result<(), KmsError> {
        for account in [request.user, request.contract] {
            if !self.shared.chain.persist_allowed(request.handle, account).await? {
                return Err(LegacyError::NotAllowed {
                    handle: request.handle,
                    account,
                }
                .into());
            }
        }
        Ok(())
    }

    /// Fetches the ciphertext and checks that the coprocessor vouches for it.
    async fn ciphertext(&self, handle: B256) -> Result<Bytes, KmsError> {
        let served = self.shared.ciphertexts.ciphertext(handle).await.map_err(|source| match source {
            SourceError::NotReady | SourceError::Unknown => LegacyError::NotReady(handle),
            source => LegacyError::Ciphertext {
                handle,
                reason: source.to_string(),
            },
        })?;
        let digest = served_ciphertext_digest(U256::from_be_bytes(handle.0), keccak256(&served.bytes));
        if recover_signer(digest, &served.signature) != Some(self.shared.site.coprocessor) {
            tracing::error!(%handle, "refused a ciphertext; the coprocessor's storage may have been tampered with");
            return Err(LegacyError::Ciphertext {
                handle,
                reason: format!("it is not signed by the coprocessor {}", self.shared.site.coprocessor),
            }
            .into());
        }
        Ok(served.bytes)
    }

    /// Does what takes long on a blocking thread, under the limit on how much of it runs at once.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&LegacyKmsParts) -> Result<T, KmsError> + Send + 'static,
    ) -> Result<T, KmsError> {
        let turn = Arc::clone(&self.work).acquire_owned().await.map_err(|_| KmsError::Task)?;
        let shared = Arc::clone(&self.shared);
        let work = move || {
            // Held by the work itself: it goes on when the request is abandoned.
            let _turn = turn;
            work(&shared)
        };
        tokio::task::spawn_blocking(work).await.map_err(|_| KmsError::Task)?
    }
}

fn decrypt(shared: &LegacyKmsParts, handle: B256, ty: FheType, ciphertext: &[u8]) -> Result<U256, KmsError> {
    let undecryptable = |source: FheError| LegacyError::Ciphertext {
        handle,
        reason: source.to_string(),
    };
    Ok(shared.decrypt.decrypt(ty, ciphertext).map_err(undecryptable)?)
}

fn handle_type(handle: B256) -> Result<FheType, LegacyError> {
    let [.., ty, version] = handle.0;
    FheType::try_from(ty)
        .ok()
        .filter(|_| version == VERSION)
        .ok_or(LegacyError::Handle(handle))
}
