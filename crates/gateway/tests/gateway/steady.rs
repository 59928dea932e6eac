//! Services that take a moment and then answer what follows from the request alone, in whatever process they run.

use std::{sync::Arc, time::Duration};

use alloy::primitives::{B256, Bytes, U256, keccak256};
use cipherloom_gateway::{
    Label, ServiceError, Services,
    services::{Admission, AdmissionRequest, Decryption, InputAdmission, KeyFile, KeyMaterial},
};
use cipherloom_primitives::{
    FheType, Handle,
    decryption::{PublicDecryptionAnswer, PublicDecryptionRequest, UserDecryptionRequest, UserDecryptionShare, abi_words},
};
use cipherloom_store::GatewayJobs;
use futures_util::future::BoxFuture;

use crate::services::CHAIN;

/// The services.
#[derive(Clone, Copy)]
pub(crate) struct Steady {
    /// How long a decryption takes.
    pub(crate) latency: Duration,
}

/// The handle of a number.
pub(crate) fn numbered(number: u64) -> Handle {
    Handle::computed(keccak256(number.to_be_bytes()), CHAIN, FheType::Uint64)
}

/// What a handle decrypts to.
pub(crate) fn value_of(handle: Handle) -> U256 {
    let digest: B256 = keccak256(handle.as_slice());
    U256::from_be_bytes(digest.0) >> 192
}

/// The field `decryptedValue` of the answer for a handle.
pub(crate) fn decrypted_value(handle: Handle) -> String {
    alloy::primitives::hex::encode(abi_words(&[value_of(handle)]))
}

pub(crate) fn services(latency: Duration, jobs: Option<Arc<dyn GatewayJobs>>) -> Services {
    let steady = Arc::new(Steady { latency });
    Services {
        keys: Arc::clone(&steady) as _,
        inputs: Arc::clone(&steady) as _,
        decryption: steady,
        progress: None,
        jobs,
    }
}

impl KeyMaterial for Steady {
    fn public_key(&self) -> KeyFile {
        KeyFile {
            id: "key".to_owned(),
            bytes: Arc::new([1, 2, 3]),
        }
    }

    fn crs(&self) -> KeyFile {
        KeyFile {
            id: "crs".to_owned(),
            bytes: Arc::new([4, 5, 6]),
        }
    }
}

impl InputAdmission for Steady {
    fn admit(&self, _: AdmissionRequest) -> BoxFuture<'static, Result<Admission, ServiceError>> {
        Box::pin(async {
            Ok(Admission::Rejected {
                reason: "there are no inputs here".to_owned(),
            })
        })
    }
}

impl Decryption for Steady {
    fn public_decrypt(&self, request: PublicDecryptionRequest) -> BoxFuture<'static, Result<PublicDecryptionAnswer, ServiceError>> {
        let latency = self.latency;
        Box::pin(async move {
            tokio::time::sleep(latency).await;
            let values: Vec<U256> = request.handles.iter().map(|handle| value_of(*handle)).collect();
            Ok(PublicDecryptionAnswer {
                decrypted_result: abi_words(&values).into(),
                signatures: vec![Bytes::from(vec![7; 65])],
                extra_data: request.extra_data,
            })
        })
    }

    fn user_decrypt(&self, _: UserDecryptionRequest) -> BoxFuture<'static, Result<Vec<UserDecryptionShare>, ServiceError>> {
        Box::pin(async { Err(ServiceError::new(Label::RequestError, "there are no users here")) })
    }
}
