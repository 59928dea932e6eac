//! Reading values again and again under permits that are made when one is needed.

use std::sync::Arc;

use alloy::signers::Signer;
use cipherloom_primitives::{Address, Handle, decryption::MAX_PERMIT_CONTRACTS};
use tokio::sync::Mutex;

use crate::{Client, Permit, PermitTerms, Plaintext, error::ClientError};

/// For how many days a reader's permits are valid unless it is said.
const DEFAULT_DAYS: u64 = 7;

/// How long before its end a permit is replaced, in seconds: a request takes a while.
const MARGIN_SECONDS: u64 = 60;

/// Reads the values of one account. The wallet signs once for each set of contracts and is not asked again until the permit ends.
pub struct Reader<S> {
    client: Client,
    signer: S,
    duration_days: u64,
    delegator: Option<Address>,
    /// Held while the wallet is asked, so that it is asked once.
    permits: Mutex<Vec<Arc<Permit>>>,
}

impl Client {
    /// Starts reading values as the account of a wallet.
    #[must_use]
    pub fn reader<S: Signer + Sync>(&self, signer: S) -> Reader<S> {
        Reader {
            client: self.clone(),
            signer,
            duration_days: DEFAULT_DAYS,
            delegator: None,
            permits: Mutex::default(),
        }
    }
}

impl<S: Signer + Sync> Reader<S> {
    /// Has permits made for this many days, 1 to 365.
    #[must_use]
    pub fn for_days(self, duration_days: u64) -> Self {
        Self { duration_days, ..self }
    }

    /// Reads the values of an account that has delegated reading them.
    #[must_use]
    pub fn on_behalf_of(self, delegator: Address) -> Self {
        Self {
            delegator: Some(delegator),
            ..self
        }
    }

    /// Decrypts handles, each with the contract it belongs to: at most 10 contracts and 2048 bits at a time.
    ///
    /// # Errors
    /// As [`Client::permit`] and [`Client::user_decrypt`].
    pub async fn read(&self, pairs: &[(Handle, Address)]) -> Result<Vec<(Handle, Plaintext)>, ClientError> {
        let mut contracts: Vec<Address> = pairs.iter().map(|(_, contract)| *contract).collect();
        contracts.sort_unstable();
        contracts.dedup();
        let permit = self.permit(contracts).await?;
        self.client.user_decrypt(pairs, &permit).await
    }

    /// Forgets all permits: the next request asks the wallet again, as it must after the account has declared its permits invalid on chain.
    pub async fn forget_permits(&self) {
        self.permits.lock().await.clear();
    }

    async fn permit(&self, contracts: Vec<Address>) -> Result<Arc<Permit>, ClientError> {
        let mut permits = self.permits.lock().await;
        let latest = crate::permit::now().saturating_add(MARGIN_SECONDS);
        permits.retain(|permit| permit.expires_at() > latest);
        let known = permits
            .iter()
            .find(|permit| contracts.iter().all(|contract| permit.covers(*contract)));
        if let Some(permit) = known {
            return Ok(Arc::clone(permit));
        }
        // One permit for what was read before and now, as long as that fits.
        let mut wanted = contracts.clone();
        for permit in permits.iter() {
            let more = permit.terms().contracts().iter().filter(|contract| !wanted.contains(contract));
            let more: Vec<Address> = more.copied().collect();
            if wanted.len() + more.len() <= MAX_PERMIT_CONTRACTS {
                wanted.extend(more);
            }
        }
        let terms = PermitTerms {
            delegator: self.delegator,
            ..PermitTerms::starting_now(wanted, self.duration_days)
        };
        let permit = Arc::new(self.client.permit(&self.signer, terms).await?);
        permits.retain(|old| !old.terms().contracts().iter().all(|contract| permit.covers(*contract)));
        permits.push(Arc::clone(&permit));
        Ok(permit)
    }
}
