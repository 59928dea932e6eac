//! gRPC messages and services, generated from `proto/` when building.
//!
//! Modules are named after the packages: [`fhevm`] holds what nodes and gateways of the 0.6 generation speak, [`cipherloom`] what is our
//! own. The generated code reads and writes messages with [`codec::BoundedCodec`], which refuses a message of too many parts before it
//! allocates them.

pub mod codec;
pub mod failure;
pub mod wire;

/// Packages of the 0.6 generation.
#[expect(
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    reason = "generated services silence lints in their own way"
)]
pub mod fhevm {
    /// Numbers that the services share.
    pub mod common {
        tonic::include_proto!("fhevm.common");
    }
    /// The coprocessor.
    pub mod coprocessor {
        tonic::include_proto!("fhevm.coprocessor");
    }
    /// The executor of native mode.
    pub mod executor {
        tonic::include_proto!("fhevm.executor");
    }
}

/// Packages of our own.
#[expect(
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    reason = "generated services silence lints in their own way"
)]
pub mod cipherloom {
    /// The context of encrypted inputs.
    pub mod input {
        /// Version 1.
        pub mod v1 {
            tonic::include_proto!("cipherloom.input.v1");
        }
    }
    /// The executor's own service.
    pub mod executor {
        /// Version 1.
        pub mod v1 {
            tonic::include_proto!("cipherloom.executor.v1");
        }
    }
    /// Why calls between parts fail.
    pub mod failure {
        /// Version 1.
        pub mod v1 {
            tonic::include_proto!("cipherloom.failure.v1");
        }
    }
    /// What gateways and KMS nodes ask a coprocessor.
    pub mod coprocessor {
        /// Version 1.
        pub mod v1 {
            tonic::include_proto!("cipherloom.coprocessor.v1");
        }
    }
    /// What gateways ask a KMS node.
    pub mod kms {
        /// Version 1.
        pub mod v1 {
            tonic::include_proto!("cipherloom.kms.v1");
        }
    }
    /// What gateways ask the KMS nodes of a committee.
    pub mod committee {
        /// Version 1.
        pub mod v1 {
            tonic::include_proto!("cipherloom.committee.v1");
        }
    }
    /// What drives the ceremonies of KMS nodes.
    pub mod ceremony {
        /// Version 1.
        pub mod v1 {
            tonic::include_proto!("cipherloom.ceremony.v1");
        }
    }
    /// What nodes of a native chain say to each other.
    pub mod consensus {
        /// Version 1.
        pub mod v1 {
            tonic::include_proto!("cipherloom.consensus.v1");
        }
    }
}

/// The encoded descriptors of all packages, for server reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
