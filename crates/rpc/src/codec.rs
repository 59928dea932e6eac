//! Reading and writing messages, with limits on what a received one may be made of.

use std::marker::PhantomData;

use bytes::Buf as _;
use prost::Message;
use tonic::{
    Status,
    codec::{Codec, DecodeBuf, Decoder},
};
use tonic_prost::ProstEncoder;

use crate::{
    cipherloom::{ceremony::v1 as ceremony, committee::v1 as committee, coprocessor::v1 as parts, executor::v1 as own, kms::v1 as kms},
    fhevm::{coprocessor, executor},
    wire::{Parts, check_parts},
};

/// The most elements of each repeated field that a service takes; what it accepts is its own matter and less. It is the largest number of
/// computations an engine takes at once.
pub const MAX_ELEMENTS: usize = 1 << 16;

/// The most operands of a computation, and the most handles of its result. The longest lists of the operation table have 101.
pub const MAX_OPERANDS: usize = 128;

const COMPUTATION: Parts = Parts {
    fields: 2 * MAX_OPERANDS + 1,
    // Operation, operands with one field each, result handles.
    inside: &[(2, Parts::flat(2))],
};
const SYNC_COMPUTE: Parts = Parts {
    fields: 4 * MAX_ELEMENTS,
    inside: &[(1, COMPUTATION), (3, Parts::flat(4)), (100, Parts::flat(8))],
};
const ASYNC_COMPUTATION: Parts = Parts {
    fields: 2 * MAX_OPERANDS + 2,
    inside: &[(4, Parts::flat(2))],
};

/// The most handles that are watched with one call.
pub const MAX_WATCHED_HANDLES: usize = 1024;

/// The most handles of a decryption: the smallest type counts 2 of the 2048 bits that a request may have.
const MAX_DECRYPTED_HANDLES: usize = 1024;

/// Handles, extra data, and what proves something about them.
const PUBLIC_DECRYPTION: Parts = Parts {
    fields: MAX_DECRYPTED_HANDLES + 8,
    inside: &[],
};
/// A permit lists at most ten contracts.
const PERMIT: Parts = Parts::flat(32);
const USER_DECRYPTION: Parts = Parts {
    fields: MAX_DECRYPTED_HANDLES + 16,
    inside: &[(1, Parts::flat(3)), (4, PERMIT), (5, PERMIT)],
};

/// The most bundles of shares with one request: a few more than a committee can have parties, so that what is superfluous is named and not cut.
pub const MAX_BUNDLES: usize = 32;

/// Who holds the share, the partial decryptions and a signature.
const BUNDLE: Parts = Parts {
    fields: MAX_DECRYPTED_HANDLES + 4,
    inside: &[(1, Parts::flat(8))],
};
/// Whose share of what, and the members of the committee.
const HELD_SHARE: Parts = Parts {
    fields: 32,
    inside: &[(1, Parts::flat(8))],
};
/// A party's number, what it did, and the bundles that prove it.
const FAULT: Parts = Parts {
    fields: 4,
    inside: &[(3, BUNDLE)],
};
const PUBLIC_SIGNATURE: Parts = Parts {
    fields: MAX_BUNDLES + 1,
    inside: &[(1, PUBLIC_DECRYPTION), (2, BUNDLE)],
};

/// The most letters of a resharing in one call.
pub const MAX_LETTERS: usize = 512;
/// The most documents of one kind in a call of a ceremony: cards of two of the largest committees.
pub const MAX_DOCUMENTS: usize = 64;
const LETTER: Parts = Parts::flat(6);
/// Nodes are not believed one by one, so what they answer has limits, too.
const LETTERS_ANSWER: Parts = Parts {
    fields: 2 * MAX_LETTERS + 1,
    inside: &[(1, LETTER)],
};

/// A message that can be received, with its limits.
pub trait Received: Message + Default + 'static {
    /// How many parts it may have, counted before they are allocated. Without limits, only the size of the message counts; that is for
    /// answers, which come from servers one trusts.
    const LIMITS: Option<Parts>;
}

macro_rules! received {
    ($($message:ty => $limits:expr),* $(,)?) => {
        $(impl Received for $message {
            const LIMITS: Option<Parts> = $limits;
        })*
    };
}

received! {
    executor::SyncComputeRequest => Some(SYNC_COMPUTE),
    executor::SyncComputeResponse => None,
    own::ComputeRequest => Some(Parts { fields: MAX_ELEMENTS + 1, inside: &[(1, SYNC_COMPUTE)] }),
    own::ComputeResult => None,
    own::DescribeRequest => Some(Parts::flat(0)),
    own::DescribeResponse => None,
    coprocessor::AsyncComputeRequest => Some(Parts { fields: MAX_ELEMENTS, inside: &[(1, ASYNC_COMPUTATION)] }),
    coprocessor::InputUploadBatch => Some(Parts { fields: 256, inside: &[(1, Parts::flat(64))] }),
    coprocessor::GetCiphertextBatch => Some(Parts::flat(MAX_ELEMENTS)),
    coprocessor::TrivialEncryptBatch => Some(Parts { fields: MAX_ELEMENTS, inside: &[(1, Parts::flat(8))] }),
    coprocessor::GenericResponse => None,
    coprocessor::InputUploadResponse => None,
    coprocessor::GetCiphertextResponse => None,
    parts::DescribeRequest => Some(Parts::flat(0)),
    parts::DescribeResponse => None,
    parts::GetKeyFileRequest => Some(Parts::flat(2)),
    parts::GetKeyFileResponse => None,
    parts::AdmitInputRequest => Some(Parts::flat(6)),
    parts::AdmitInputResponse => None,
    parts::WatchHandlesRequest => Some(Parts::flat(MAX_WATCHED_HANDLES + 1)),
    parts::WatchHandlesResponse => None,
    parts::GetSignedCiphertextRequest => Some(Parts::flat(1)),
    parts::GetSignedCiphertextResponse => None,
    parts::GetSquashedCiphertextRequest => Some(Parts::flat(2)),
    parts::GetSquashedCiphertextResponse => None,
    kms::DescribeRequest => Some(Parts::flat(0)),
    kms::DescribeResponse => None,
    kms::PublicDecryptRequest => Some(PUBLIC_DECRYPTION),
    kms::PublicDecryptResponse => None,
    kms::UserDecryptRequest => Some(USER_DECRYPTION),
    kms::UserDecryptResponse => None,
    // Nodes of a committee are not believed one by one, so what they answer has limits, too.
    committee::DescribeRequest => Some(Parts::flat(0)),
    committee::DescribeResponse => Some(Parts { fields: 1024, inside: &[(3, HELD_SHARE)] }),
    committee::UserShareRequest => Some(Parts { fields: 1, inside: &[(1, USER_DECRYPTION)] }),
    committee::UserShareResponse => Some(Parts { fields: 3, inside: &[(1, Parts::flat(3)), (2, Parts::flat(8))] }),
    committee::PublicSharesRequest => Some(Parts { fields: 1, inside: &[(1, PUBLIC_DECRYPTION)] }),
    committee::PublicSharesResponse => Some(Parts { fields: 1, inside: &[(1, BUNDLE)] }),
    committee::PublicSignRequest => Some(PUBLIC_SIGNATURE),
    committee::PublicSignResponse => Some(Parts { fields: 4 * MAX_BUNDLES, inside: &[(4, FAULT), (5, Parts::flat(2))] }),
    ceremony::DescribeRequest => Some(Parts::flat(0)),
    ceremony::DescribeResponse => Some(Parts::flat(MAX_DOCUMENTS)),
    ceremony::BeginRequest => Some(Parts::flat(2)),
    ceremony::BeginResponse => Some(Parts::flat(1)),
    ceremony::CardsRequest => Some(Parts::flat(MAX_DOCUMENTS + 1)),
    ceremony::LettersResponse => Some(LETTERS_ANSWER),
    ceremony::DealRequest => Some(Parts { fields: 3, inside: &[(3, LETTER)] }),
    ceremony::DealResponse => Some(Parts::flat(1)),
    ceremony::DeliverRequest => Some(Parts { fields: MAX_LETTERS + 1, inside: &[(2, LETTER)] }),
    ceremony::CloseRequest => Some(Parts::flat(1)),
    ceremony::AcceptRequest => Some(Parts::flat(1)),
    ceremony::AcceptResponse => Some(Parts::flat(2)),
    ceremony::ActivateRequest => Some(Parts::flat(1)),
    ceremony::ActivateResponse => Some(Parts::flat(0)),
    ceremony::AbortRequest => Some(Parts::flat(1)),
    ceremony::AbortResponse => Some(Parts::flat(0)),
    ceremony::BackupRequest => Some(Parts::flat(1)),
    ceremony::BackupResponse => Some(Parts::flat(1)),
}

/// Protobuf messages whose parts are counted before they are read.
#[derive(Clone, Copy, Debug)]
pub struct BoundedCodec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for BoundedCodec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T: Message + 'static, U: Received> Codec for BoundedCodec<T, U> {
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = BoundedDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstEncoder::default()
    }

    fn decoder(&mut self) -> Self::Decoder {
        BoundedDecoder(PhantomData)
    }
}

/// Reads messages of one type.
#[derive(Clone, Copy, Debug)]
pub struct BoundedDecoder<U>(PhantomData<U>);

impl<U: Received> Decoder for BoundedDecoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, source: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        // The bytes are taken over, not copied, and fields of bytes then share them.
        let message = source.copy_to_bytes(source.remaining());
        if let Some(limits) = &U::LIMITS {
            check_parts(&message, limits)?;
        }
        U::decode(message)
            .map(Some)
            .map_err(|error| Status::invalid_argument(format!("the message is malformed: {error}")))
    }
}

#[cfg(test)]
mod tests {
    use cipherloom_primitives::Operation;

    use prost::Message as _;

    use super::*;
    use crate::fhevm::common::FheOperation;

    #[test]
    fn bundles_and_what_is_in_them_are_counted_before_they_are_read() {
        let request = |bundles, partials, handles| {
            let bundle = committee::Bundle {
                made_with: Some(committee::ShareRef::default()),
                request_digest: vec![1; 32].into(),
                partials: vec![vec![2].into(); partials],
                signature: vec![3; 65].into(),
            };
            let request = kms::PublicDecryptRequest {
                handles: vec![vec![4; 32].into(); handles],
                ..kms::PublicDecryptRequest::default()
            };
            committee::PublicSignRequest {
                request: Some(request),
                bundles: vec![bundle; bundles],
            }
            .encode_to_vec()
        };
        let limits = committee::PublicSignRequest::LIMITS.unwrap();
        assert!(check_parts(&request(MAX_BUNDLES, MAX_DECRYPTED_HANDLES, MAX_DECRYPTED_HANDLES), &limits).is_ok());
        for (bundles, partials, handles) in [
            (MAX_BUNDLES + 1, 1, 1),
            (1, MAX_DECRYPTED_HANDLES + 2, 1),
            (1, 1, MAX_DECRYPTED_HANDLES + 9),
        ] {
            let status = check_parts(&request(bundles, partials, handles), &limits).unwrap_err();
            assert_eq!(status.code(), tonic::Code::ResourceExhausted);
        }
    }

    #[test]
    fn operation_numbers_are_those_of_the_operation_table() {
        for operation in Operation::all() {
            let known = FheOperation::try_from(i32::from(operation.id()));
            assert_eq!(known.is_ok(), operation != Operation::VerifyInput, "{operation}");
        }
        assert_eq!(FheOperation::FheAdd as i32, i32::from(Operation::Add.id()));
        assert_eq!(FheOperation::FheRotr as i32, i32::from(Operation::Rotr.id()));
        assert_eq!(FheOperation::FheMax as i32, i32::from(Operation::Max.id()));
        assert_eq!(FheOperation::FheIfThenElse as i32, i32::from(Operation::IfThenElse.id()));
        assert_eq!(FheOperation::FheMulDiv as i32, i32::from(Operation::MulDiv.id()));
        assert_eq!(FheOperation::FheGetCiphertext as i32, 32);
    }
}
