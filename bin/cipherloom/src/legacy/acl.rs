//! The access-control contract of the 0.6 generation, asked through the stack's own node.

use alloy::{
    primitives::{Address, B256, U256},
    providers::RootProvider,
    sol,
};
use cipherloom_kms::{ChainViewError, legacy::LegacyChainView};
use futures_util::future::BoxFuture;

sol! {
    /// What is asked of it.
    #[sol(rpc)]
    interface AccessList {
        function persistAllowed(uint256 handle, address account) external view returns (bool);
        function allowedOnBehalf(address delegatee, uint256 handle, address contractAddress, address account) external view returns (bool);
    }
}

/// The contract at an address.
pub(super) struct LegacyAcl(AccessList::AccessListInstance<RootProvider>);

impl LegacyAcl {
    pub(super) fn new(provider: RootProvider, address: Address) -> Self {
        Self(AccessList::new(address, provider))
    }
}

impl LegacyChainView for LegacyAcl {
    fn persist_allowed(&self, handle: B256, account: Address) -> BoxFuture<'_, Result<bool, ChainViewError>> {
        Box::pin(async move {
            let call = self.0.persistAllowed(U256::from_be_bytes(handle.0), account);
            call.call().await.map_err(unreadable)
        })
    }

    fn allowed_on_behalf(
        &self,
        delegatee: Address,
        handle: B256,
        contract: Address,
        account: Address,
    ) -> BoxFuture<'_, Result<bool, ChainViewError>> {
        Box::pin(async move {
            let call = self.0.allowedOnBehalf(delegatee, U256::from_be_bytes(handle.0), contract, account);
            call.call().await.map_err(unreadable)
        })
    }
}

fn unreadable(error: alloy::contract::Error) -> ChainViewError {
    ChainViewError(error.to_string())
}
