//! What is said about a ciphertext that was fetched and checked.

use std::path::Path;

use alloy::primitives::{Address, B256};
use cipherloom_coprocessor::mirror::CiphertextRecord;
use cipherloom_primitives::{CiphertextForm, FheType};
use serde_json::json;

use super::SignerOptions;

/// A ciphertext whose digest, and signature if there is one, have been checked.
pub(super) struct Report {
    /// Where it came from: mirror, server, database or file.
    pub(super) source: &'static str,
    /// The handle, or the name it was asked by.
    pub(super) handle: String,
    pub(super) fhe_type: FheType,
    /// Unknown where a server says it alone.
    pub(super) key_set_id: Option<B256>,
    pub(super) form: CiphertextForm,
    pub(super) digest: B256,
    pub(super) size_bytes: u64,
    pub(super) signature: Option<Signature>,
    /// The software that published it.
    pub(super) engine_version: Option<String>,
}

/// A signature that was checked.
pub(super) struct Signature {
    pub(super) signer: Address,
    /// Whether it is one of the signers that were named.
    pub(super) expected: bool,
}

impl Report {
    /// Describes what a record vouches for, after it was checked.
    pub(super) fn of_record(record: &CiphertextRecord, signers: &SignerOptions, source: &'static str) -> Self {
        Self {
            source,
            handle: record.handle.to_string(),
            fhe_type: record.handle.fhe_type(),
            key_set_id: Some(record.key_set_id),
            form: record.form,
            digest: record.digest,
            size_bytes: record.size_bytes,
            signature: Some(Signature {
                signer: record.signer,
                expected: !signers.any_signer,
            }),
            engine_version: Some(record.engine_version.clone()),
        }
    }

    pub(super) fn print(&self, as_json: bool, file: Option<&Path>) {
        if as_json {
            println!("{}", self.to_json(file));
            return;
        }
        println!("handle       {}", self.handle);
        println!("type         {}", self.fhe_type);
        if let Some(id) = self.key_set_id {
            println!("key set      {id:x}");
        }
        println!("form         {}, {} bytes", self.form, self.size_bytes);
        println!("digest       {:x} (Keccak-256): the bytes have it", self.digest);
        match &self.signature {
            Some(Signature { signer, expected: true }) => println!("signature    verified: {signer}, as expected"),
            Some(Signature { signer, .. }) => println!("signature    verified: {signer}. Nobody said whether this signer is to be trusted"),
            None => println!("signature    none: a database holds none; --server and --mirror bring one"),
        }
        if let Some(version) = &self.engine_version {
            println!("published by cipherloom {version}");
        }
        if let Some(path) = file {
            println!("written to   {}", path.display());
        }
    }

    fn to_json(&self, file: Option<&Path>) -> serde_json::Value {
        json!({
            "source": self.source,
            "handle": self.handle,
            "type": self.fhe_type.to_string(),
            "keySetId": self.key_set_id,
            "form": self.form,
            "digest": self.digest,
            "sizeBytes": self.size_bytes,
            "digestVerified": true,
            "signatureVerified": self.signature.is_some(),
            "signer": self.signature.as_ref().map(|signature| signature.signer.to_checksum(None)),
            "signerExpected": self.signature.as_ref().map(|signature| signature.expected),
            "engineVersion": self.engine_version,
            "file": file.map(|path| path.display().to_string()),
        })
    }
}
