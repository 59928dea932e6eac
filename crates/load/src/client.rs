//! A tenant's node or gateway: asks over gRPC, and asks again as long as that can help.
//!
//! Everything asked here may be asked twice, which is what makes a crash of the server harmless: a client that got no answer repeats the request.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use cipherloom_fhe::Decrypt;
use cipherloom_primitives::{Address, FheType};
use cipherloom_rpc::fhevm::coprocessor::{
    AsyncComputeRequest, GetCiphertextBatch, InputCiphertextResponse, InputToUpload, InputUploadBatch, TrivialEncryptBatch,
    TrivialEncryptRequestSingle, fhevm_coprocessor_client::FhevmCoprocessorClient,
};
use tonic::{
    Code, Request, Status,
    metadata::{Ascii, MetadataValue},
    transport::{Channel, Endpoint},
};

use crate::{
    error::LoadError,
    ledger::Ledger,
    plain::{Plain, Value},
    process::TenantAccess,
};

/// The largest answer that is taken.
const MAX_ANSWER_BYTES: usize = 1 << 30;

/// How many ciphertexts are fetched at a time: below the limit that servers have by default.
const FETCHED_TOGETHER: usize = 2000;

/// The pause before a request is repeated.
const PAUSE: Duration = Duration::from_millis(100);

/// How long one request may take before it counts as lost.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);

/// A ciphertext as the server hands it out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// Its bytes.
    pub bytes: Bytes,
    /// The number of its type.
    pub ty: i32,
    /// The coprocessor's signature.
    pub signature: Bytes,
}

/// A client with a tenant's API key.
#[derive(Clone, Debug)]
pub struct TenantClient {
    client: FhevmCoprocessorClient<Channel>,
    authorization: MetadataValue<Ascii>,
    tenant: Arc<TenantAccess>,
    patience: Duration,
}

impl TenantClient {
    /// Makes a client of a server. Connects when it is first used, and again whenever the connection is gone.
    ///
    /// # Errors
    /// [`LoadError::Address`] or [`LoadError::ApiKey`].
    pub fn new(url: &str, tenant: Arc<TenantAccess>, patience: Duration) -> Result<Self, LoadError> {
        let endpoint = Endpoint::from_shared(url.to_owned()).map_err(|_| LoadError::Address(url.to_owned()))?;
        let channel = endpoint.timeout(REQUEST_TIMEOUT).connect_lazy();
        let authorization = format!("Bearer {}", tenant.api_key)
            .parse()
            .map_err(|_| LoadError::ApiKey(tenant.name.clone().into()))?;
        Ok(Self {
            client: FhevmCoprocessorClient::new(channel)
                .max_decoding_message_size(MAX_ANSWER_BYTES)
                .max_encoding_message_size(MAX_ANSWER_BYTES),
            authorization,
            tenant,
            patience,
        })
    }

    /// Returns whom the client acts for.
    #[must_use]
    pub fn tenant(&self) -> &TenantAccess {
        &self.tenant
    }

    /// Asks for computations, once.
    ///
    /// # Errors
    /// What the server, or the connection, said.
    pub async fn compute_once(&self, request: AsyncComputeRequest) -> Result<(), Status> {
        let answer = self.client.clone().async_compute(self.authorized(request)).await?.into_inner();
        if answer.response_code == 0 {
            Ok(())
        } else {
            Err(Status::data_loss(format!("response code {}", answer.response_code)))
        }
    }

    /// Asks for computations until the server has accepted them.
    ///
    /// # Errors
    /// [`LoadError::Refused`] if asking again is of no use, or the client's patience ends.
    pub async fn compute(&self, request: &AsyncComputeRequest) -> Result<(), LoadError> {
        self.again(|| self.compute_once(request.clone())).await
    }

    /// Has public values stored.
    ///
    /// # Errors
    /// As [`Self::compute`].
    pub async fn trivial_encrypt(&self, values: &[TrivialEncryptRequestSingle]) -> Result<(), LoadError> {
        let ask = || async {
            let request = TrivialEncryptBatch { values: values.to_vec() };
            let mut client = self.client.clone();
            client.trivial_encrypt_ciphertexts(self.authorized(request)).await.map(drop)
        };
        self.again(ask).await
    }

    /// Uploads input lists for a contract and a user.
    ///
    /// # Errors
    /// As [`Self::compute`].
    pub async fn upload(&self, lists: &[Vec<u8>], contract: Address, user: Address) -> Result<Vec<InputCiphertextResponse>, LoadError> {
        let input_ciphertexts: Vec<InputToUpload> = lists
            .iter()
            .map(|list| InputToUpload {
                input_payload: Bytes::copy_from_slice(list),
                contract_address: contract.to_string(),
                user_address: user.to_string(),
                signatures: Vec::new(),
            })
            .collect();
        let ask = || async {
            let request = InputUploadBatch {
                input_ciphertexts: input_ciphertexts.clone(),
            };
            let mut client = self.client.clone();
            Ok(client.upload_inputs(self.authorized(request)).await?.into_inner().upload_responses)
        };
        let answers = self.again(ask).await?;
        if answers.len() == lists.len() {
            Ok(answers)
        } else {
            Err(LoadError::Answer(format!("{} lists, {} answers", lists.len(), answers.len())))
        }
    }

    /// Uploads a list of these values and returns them under the names that the server gave.
    ///
    /// # Errors
    /// As [`Self::compute`], and [`LoadError::Answer`] if the answer has other types.
    pub async fn upload_values(
        &self,
        list: &[u8],
        plaintexts: &[(FheType, alloy_primitives::U256)],
        contract: Address,
        user: Address,
    ) -> Result<Vec<Value>, LoadError> {
        let answers = self.upload(&[list.to_vec()], contract, user).await?;
        let handles = answers.into_iter().flat_map(|answer| answer.input_handles);
        let values: Vec<Value> = handles
            .zip(plaintexts)
            .filter(|(handle, (ty, _))| handle.ciphertext_type == i32::from(ty.id()))
            .map(|(handle, (ty, number))| Value {
                name: handle.handle,
                ty: *ty,
                plain: Plain::Exactly(*number),
            })
            .collect();
        if values.len() == plaintexts.len() {
            Ok(values)
        } else {
            Err(LoadError::Answer(format!(
                "{} values, {} handles of their types",
                plaintexts.len(),
                values.len()
            )))
        }
    }

    /// Fetches ciphertexts by name, once; nothing for those that are not there.
    ///
    /// # Errors
    /// What the server, or the connection, said.
    pub async fn fetch_once(&self, names: Vec<Bytes>) -> Result<Vec<Option<Fetched>>, Status> {
        let request = GetCiphertextBatch { handles: names.clone() };
        let answer = self.client.clone().get_ciphertexts(self.authorized(request)).await?.into_inner();
        let in_order = answer.responses.iter().map(|response| &response.handle).eq(&names);
        if !in_order {
            return Err(Status::data_loss("the answer is about other handles, or in another order"));
        }
        let fetched = answer.responses.into_iter().map(|response| {
            response.ciphertext.map(|ciphertext| Fetched {
                bytes: ciphertext.ciphertext_bytes,
                ty: ciphertext.ciphertext_type,
                signature: ciphertext.signature,
            })
        });
        Ok(fetched.collect())
    }

    /// Fetches the ciphertexts of values.
    ///
    /// # Errors
    /// As [`Self::compute`].
    pub async fn fetch(&self, values: &[Value]) -> Result<Vec<Option<Fetched>>, LoadError> {
        let mut fetched = Vec::with_capacity(values.len());
        for values in values.chunks(FETCHED_TOGETHER) {
            let names: Vec<Bytes> = values.iter().map(|value| value.name.clone()).collect();
            fetched.extend(self.again(|| self.fetch_once(names.clone())).await?);
        }
        Ok(fetched)
    }

    /// Waits until every value of a ledger is there, and checks each against it.
    ///
    /// # Errors
    /// As [`Ledger::check`] and [`Self::compute`]; [`LoadError::TooSlow`] if no further value appears for as long as this.
    pub async fn await_all(&self, ledger: &mut Ledger, decryptor: &dyn Decrypt, stall: Duration) -> Result<(), LoadError> {
        let values = ledger.values().to_vec();
        self.await_each(values, stall, |asked, fetched| ledger.check(asked, fetched, decryptor))
            .await
    }

    /// Waits until every one of these values is there, and decrypts none.
    ///
    /// # Errors
    /// As [`Self::await_all`], wrong values apart.
    pub async fn await_present(&self, values: &[Value], stall: Duration) -> Result<(), LoadError> {
        let count = |_: &[Value], fetched: &[Option<Fetched>]| Ok(fetched.iter().flatten().count());
        self.await_each(values.to_vec(), stall, count).await
    }

    /// Waits until all are there. What is fetched is shown, and how many there were is asked for.
    async fn await_each(
        &self,
        mut missing: Vec<Value>,
        stall: Duration,
        mut found: impl FnMut(&[Value], &[Option<Fetched>]) -> Result<usize, LoadError>,
    ) -> Result<(), LoadError> {
        let mut last_progress = Instant::now();
        while !missing.is_empty() {
            // In the order of acceptance, so that what comes first is mostly what is there first.
            let asked = missing.get(..FETCHED_TOGETHER.min(missing.len())).unwrap_or_default().to_vec();
            let fetched = self.fetch(&asked).await?;
            let found = found(&asked, &fetched)?;
            let mut there = fetched.iter().map(Option::is_some);
            let rest = missing.split_off(asked.len());
            missing.retain(|_| !there.next().unwrap_or(false));
            // What is still missing is asked for again after the others.
            missing = [rest, missing].concat();
            if found > 0 {
                last_progress = Instant::now();
            } else if last_progress.elapsed() > stall {
                let names: Vec<String> = missing
                    .iter()
                    .take(3)
                    .map(|value| alloy_primitives::hex::encode(&value.name))
                    .collect();
                return Err(LoadError::TooSlow {
                    what: format!(
                        "tenant {}: {} values, such as {}",
                        self.tenant.name,
                        missing.len(),
                        names.join(", ")
                    ),
                    within: stall,
                });
            } else {
                tokio::time::sleep(PAUSE).await;
            }
        }
        Ok(())
    }

    fn authorized<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.metadata_mut().insert("authorization", self.authorization.clone());
        request
    }

    /// Asks until there is an answer, or a refusal that stays one.
    async fn again<T, F: Future<Output = Result<T, Status>>>(&self, ask: impl Fn() -> F) -> Result<T, LoadError> {
        let start = Instant::now();
        loop {
            match ask().await {
                Ok(answer) => return Ok(answer),
                Err(status) if is_passing(&status) && start.elapsed() < self.patience => tokio::time::sleep(PAUSE).await,
                Err(status) => return Err(status.into()),
            }
        }
    }
}

/// Says whether a refusal can have an end by itself: a server that restarts, a database that does, a backlog.
fn is_passing(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::Unavailable
            | Code::Unknown
            | Code::Internal
            | Code::Cancelled
            | Code::DeadlineExceeded
            | Code::Aborted
            | Code::ResourceExhausted
    )
}
