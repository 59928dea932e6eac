//! How addresses are written: with their checksum, and those of the contracts by their names in Solidity.

/// Addresses with their checksum, since SDKs refuse them without.
pub(crate) mod checksummed {
    use alloy::primitives::Address;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(address: &Address, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&address.to_checksum(None))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Address, D::Error> {
        Address::deserialize(deserializer)
    }

    pub(crate) mod option {
        use super::{Address, Deserialize, Deserializer, Serializer};

        pub(crate) fn serialize<S: Serializer>(address: &Option<Address>, serializer: S) -> Result<S::Ok, S::Error> {
            match address {
                Some(address) => super::serialize(address, serializer),
                None => serializer.serialize_none(),
            }
        }

        pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Address>, D::Error> {
            Option::deserialize(deserializer)
        }
    }

    pub(crate) mod list {
        use super::{Address, Deserialize, Deserializer, Serializer};

        pub(crate) fn serialize<S: Serializer>(addresses: &[Address], serializer: S) -> Result<S::Ok, S::Error> {
            serializer.collect_seq(addresses.iter().map(|address| address.to_checksum(None)))
        }

        pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Address>, D::Error> {
            Vec::deserialize(deserializer)
        }
    }
}

/// Addresses of the contracts by their names in Solidity.
pub(crate) mod contracts {
    use std::collections::BTreeMap;

    use alloy::primitives::Address;
    use cipherloom_contracts::{HostAddresses, HostContract};
    use serde::{Deserialize, Deserializer, Serializer, de::Error, ser::SerializeMap};

    pub(crate) fn serialize<S: Serializer>(addresses: &HostAddresses, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(HostContract::ALL.len()))?;
        for contract in HostContract::ALL {
            map.serialize_entry(contract.name(), &contract.address(addresses).to_checksum(None))?;
        }
        map.end()
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<HostAddresses, D::Error> {
        let map = BTreeMap::<HostContract, Address>::deserialize(deserializer)?;
        HostAddresses::try_of(|contract| {
            map.get(&contract)
                .copied()
                .ok_or_else(|| D::Error::custom(format!("{contract} is missing")))
        })
    }
}
