//! What stands behind a proxy (ERC-1967) and how far it is initialized (ERC-7201 storage of OpenZeppelin's `Initializable`).

use alloy::primitives::{Address, B256, b256};

use crate::{error::ChainError, host_chain::HostChain};

/// Where a proxy keeps the address of its implementation: `keccak256("eip1967.proxy.implementation") - 1`.
pub const IMPLEMENTATION_SLOT: B256 = b256!("360894a13ba1a3210667c828492db98dca3e2076cc3735a920a3ca505d382bbc");

/// Where other kinds of proxies keep an administrator: `keccak256("eip1967.proxy.admin") - 1`. Ours have none.
pub const ADMIN_SLOT: B256 = b256!("b53127684a568b3173ae13b9f8a6016e243e63b6e8ee1178d6a717850b5d6103");

/// Where other kinds of proxies keep a beacon: `keccak256("eip1967.proxy.beacon") - 1`. Ours have none.
pub const BEACON_SLOT: B256 = b256!("a3f0ad74e5423aebfd80d3ef4346578335a9a72aeaee59ff6cb3582b35133d50");

/// Where contracts keep which initializers ran: the root of `openzeppelin.storage.Initializable`.
pub const INITIALIZED_SLOT: B256 = b256!("f0c57e16840df040f15088dc2f81fe391c3923bec73e23a9662efc9c229c6a00");

/// Returns the implementation behind a proxy, or `None` if there is none.
///
/// # Errors
/// As all reads of a chain.
pub async fn implementation(chain: &HostChain, proxy: Address) -> Result<Option<Address>, ChainError> {
    let word = chain.storage(proxy, IMPLEMENTATION_SLOT).await?;
    let address = Address::from_word(word);
    Ok((address != Address::ZERO).then_some(address))
}

/// Returns the version up to which a contract is initialized; `u64::MAX` if it refuses to be.
///
/// # Errors
/// As all reads of a chain.
pub async fn initialized_version(chain: &HostChain, contract: Address) -> Result<u64, ChainError> {
    let word = chain.storage(contract, INITIALIZED_SLOT).await?;
    let mut last = [0; 8];
    last.copy_from_slice(word.as_slice().split_at(24).1);
    Ok(u64::from_be_bytes(last))
}

#[cfg(test)]
mod tests {
    use alloy::primitives::{U256, keccak256};

    use super::*;

    #[test]
    fn slots_follow_from_their_names() {
        let minus_one = |name: &str| U256::from_be_bytes(keccak256(name).0) - U256::ONE;
        for (name, slot) in [
            ("eip1967.proxy.implementation", IMPLEMENTATION_SLOT),
            ("eip1967.proxy.admin", ADMIN_SLOT),
            ("eip1967.proxy.beacon", BEACON_SLOT),
        ] {
            assert_eq!(B256::from(minus_one(name)), slot, "{name}");
        }
        let root = keccak256(B256::from(minus_one("openzeppelin.storage.Initializable")));
        let mut expected = root;
        expected.0[31] = 0;
        assert_eq!(expected, INITIALIZED_SLOT);
    }
}
