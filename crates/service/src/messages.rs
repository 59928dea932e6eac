//! Between requests and answers as types and as messages.

use anyhow::{Context, Result};
use bytes::Bytes;
use cipherloom_chain::AclEvidence;
use cipherloom_primitives::{
    Address, B256, Handle,
    decryption::{
        ClassicPermit, DecryptionPermit, PublicDecryptionAnswer, PublicDecryptionRequest, RequestedValue, UnifiedPermit,
        UserDecryptionRequest, UserDecryptionShare,
    },
};
use cipherloom_rpc::cipherloom::kms::v1 as wire;

/// Writes a request for public values.
pub fn public_request(request: &PublicDecryptionRequest, acl_evidence: Bytes) -> wire::PublicDecryptRequest {
    wire::PublicDecryptRequest {
        handles: request.handles.iter().map(handle).collect(),
        extra_data: request.extra_data.0.clone(),
        acl_evidence,
    }
}

/// Reads a request for public values.
///
/// # Errors
/// If something in it is not of its form.
pub fn read_public_request(request: wire::PublicDecryptRequest) -> Result<PublicDecryptionRequest> {
    Ok(PublicDecryptionRequest {
        handles: request.handles.iter().map(read_handle).collect::<Result<_>>()?,
        extra_data: request.extra_data.into(),
    })
}

/// Writes public values.
pub fn public_answer(answer: PublicDecryptionAnswer) -> wire::PublicDecryptResponse {
    wire::PublicDecryptResponse {
        decrypted_result: answer.decrypted_result.0,
        signatures: answer.signatures.into_iter().map(|signature| signature.0).collect(),
        extra_data: answer.extra_data.0,
    }
}

/// Reads public values.
pub fn read_public_answer(answer: wire::PublicDecryptResponse) -> PublicDecryptionAnswer {
    PublicDecryptionAnswer {
        decrypted_result: answer.decrypted_result.into(),
        signatures: answer.signatures.into_iter().map(Into::into).collect(),
        extra_data: answer.extra_data.into(),
    }
}

/// Writes a user's request.
pub fn user_request(request: &UserDecryptionRequest, acl_evidence: Bytes) -> wire::UserDecryptRequest {
    let values = request.values.iter().map(|value| wire::RequestedValue {
        handle: handle(&value.handle),
        contract: address(&value.contract_address),
        owner: address(&value.owner),
    });
    let permit = match &request.permit {
        DecryptionPermit::Classic(permit) => wire::user_decrypt_request::Permit::Classic(wire::ClassicPermit {
            delegator: permit.delegator.as_ref().map(address).unwrap_or_default(),
            contracts: permit.contracts.iter().map(address).collect(),
            start_timestamp: permit.start_timestamp,
            duration_days: permit.duration_days,
        }),
        DecryptionPermit::Unified(permit) => wire::user_decrypt_request::Permit::Unified(wire::UnifiedPermit {
            allowed_contracts: permit.allowed_contracts.iter().map(address).collect(),
            start_timestamp: permit.start_timestamp,
            duration_seconds: permit.duration_seconds,
        }),
    };
    wire::UserDecryptRequest {
        values: values.collect(),
        user: address(&request.user),
        public_key: request.public_key.0.clone(),
        permit: Some(permit),
        extra_data: request.extra_data.0.clone(),
        signature: request.signature.0.clone(),
        acl_evidence,
    }
}

/// Reads a user's request.
///
/// # Errors
/// If something in it is not of its form.
pub fn read_user_request(request: wire::UserDecryptRequest) -> Result<UserDecryptionRequest> {
    let values = request.values.iter().map(|value| {
        Ok(RequestedValue {
            handle: read_handle(&value.handle)?,
            contract_address: read_address(&value.contract)?,
            owner: read_address(&value.owner)?,
        })
    });
    let permit = match request.permit.context("a request of a user has a permit")? {
        wire::user_decrypt_request::Permit::Classic(permit) => DecryptionPermit::Classic(ClassicPermit {
            delegator: (!permit.delegator.is_empty())
                .then(|| read_address(&permit.delegator))
                .transpose()?,
            contracts: permit.contracts.iter().map(read_address).collect::<Result<_>>()?,
            start_timestamp: permit.start_timestamp,
            duration_days: permit.duration_days,
        }),
        wire::user_decrypt_request::Permit::Unified(permit) => DecryptionPermit::Unified(UnifiedPermit {
            allowed_contracts: permit.allowed_contracts.iter().map(read_address).collect::<Result<_>>()?,
            start_timestamp: permit.start_timestamp,
            duration_seconds: permit.duration_seconds,
        }),
    };
    Ok(UserDecryptionRequest {
        values: values.collect::<Result<_>>()?,
        user: read_address(&request.user)?,
        permit,
        public_key: request.public_key.into(),
        extra_data: request.extra_data.into(),
        signature: request.signature.into(),
    })
}

/// Writes a node's answer to a user.
pub fn share(share: UserDecryptionShare) -> wire::UserDecryptionShare {
    wire::UserDecryptionShare {
        payload: share.payload.0,
        signature: share.signature.0,
        extra_data: share.extra_data.0,
    }
}

/// Reads a node's answer to a user.
pub fn read_share(share: wire::UserDecryptionShare) -> UserDecryptionShare {
    UserDecryptionShare {
        payload: share.payload.into(),
        signature: share.signature.into(),
        extra_data: share.extra_data.into(),
    }
}

/// Reads storage proofs, if there are any.
///
/// # Errors
/// If they are not of their form.
pub fn read_evidence(bytes: &Bytes) -> Result<Option<AclEvidence>> {
    match bytes.is_empty() {
        true => Ok(None),
        false => Ok(Some(AclEvidence::decode(bytes)?)),
    }
}

/// Writes a handle.
pub fn handle(handle: &Handle) -> Bytes {
    Bytes::copy_from_slice(handle.as_slice())
}

/// Reads a handle.
///
/// # Errors
/// If it is none.
pub fn read_handle(bytes: &Bytes) -> Result<Handle> {
    Ok(Handle::try_from(bytes.as_ref())?)
}

/// Writes an address.
pub fn address(address: &Address) -> Bytes {
    Bytes::copy_from_slice(address.as_slice())
}

/// Reads an address.
///
/// # Errors
/// If it does not have 20 bytes.
pub fn read_address(bytes: &Bytes) -> Result<Address> {
    Address::try_from(bytes.as_ref()).ok().context("an address has 20 bytes")
}

/// Reads a digest or an id.
///
/// # Errors
/// If it does not have 32 bytes.
pub fn read_hash(bytes: &Bytes) -> Result<B256> {
    B256::try_from(bytes.as_ref()).ok().context("an id has 32 bytes")
}

#[cfg(test)]
mod tests {
    use cipherloom_primitives::FheType;

    use super::*;

    fn user(permit: DecryptionPermit) -> UserDecryptionRequest {
        UserDecryptionRequest {
            values: vec![RequestedValue {
                handle: Handle::computed(B256::repeat_byte(7), 31337, FheType::Uint64),
                contract_address: Address::repeat_byte(2),
                owner: Address::repeat_byte(3),
            }],
            user: Address::repeat_byte(1),
            permit,
            public_key: vec![4; 869].into(),
            extra_data: vec![0].into(),
            signature: vec![5; 65].into(),
        }
    }

    #[test]
    fn requests_and_answers_survive_the_wire() {
        let classic = |delegator| {
            DecryptionPermit::Classic(ClassicPermit {
                delegator,
                contracts: vec![Address::repeat_byte(2); 3],
                start_timestamp: 11,
                duration_days: 12,
            })
        };
        let unified = DecryptionPermit::Unified(UnifiedPermit {
            allowed_contracts: vec![],
            start_timestamp: 13,
            duration_seconds: 14,
        });
        for permit in [classic(None), classic(Some(Address::repeat_byte(3))), unified] {
            let request = user(permit);
            assert_eq!(read_user_request(user_request(&request, Bytes::new())).unwrap(), request);
        }
        let request = PublicDecryptionRequest {
            handles: vec![Handle::computed(B256::repeat_byte(7), 5, FheType::Bool); 2],
            extra_data: vec![1; 33].into(),
        };
        assert_eq!(read_public_request(public_request(&request, Bytes::new())).unwrap(), request);
    }

    #[test]
    fn what_is_not_of_its_form_is_refused() {
        let request = user(DecryptionPermit::Unified(UnifiedPermit {
            allowed_contracts: vec![],
            start_timestamp: 0,
            duration_seconds: 1,
        }));
        let damage: [fn(&mut wire::UserDecryptRequest); 4] = [
            |request| request.user = Bytes::from_static(&[1; 19]),
            |request| request.permit = None,
            |request| request.values[0].handle = Bytes::from_static(&[1; 33]),
            |request| request.values[0].owner = Bytes::new(),
        ];
        for damage in damage {
            let mut message = user_request(&request, Bytes::new());
            damage(&mut message);
            assert!(read_user_request(message).is_err());
        }
    }
}
