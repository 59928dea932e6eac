//! What makes execution native: carried by the context of every block, so that calls, estimates, traces and blocks see the same chain.

use std::fmt;
use std::sync::Arc;

use revm::handler::EthPrecompiles;
use revm::primitives::hardfork::SpecId;

use super::fhelib::{Execution, FheLib};
use super::recorder::NativeContracts;
use super::session::BlockSession;
use super::work::CheckInputs;

/// The rules of a native chain.
pub(crate) struct NativeRules {
    contracts: NativeContracts,
    fhe_gas_limit: u64,
    inputs: Arc<dyn CheckInputs>,
    /// Nothing is executed as a transaction: no proof is checked.
    only_calls: bool,
}

impl NativeRules {
    /// Collects them: where the host contracts are, the FHE gas of a block in HCU, and the check of input proofs.
    pub(crate) fn new(contracts: NativeContracts, fhe_gas_limit: u64, inputs: Arc<dyn CheckInputs>) -> Self {
        Self {
            contracts,
            fhe_gas_limit,
            inputs,
            only_calls: false,
        }
    }

    /// The same rules for what anybody can have simulated, in as many transactions as he likes: no proof is checked.
    pub(crate) fn without_proofs(&self) -> Self {
        Self {
            contracts: self.contracts,
            fhe_gas_limit: self.fhe_gas_limit,
            inputs: Arc::clone(&self.inputs),
            only_calls: true,
        }
    }

    /// Begins a block.
    pub(super) fn session(&self) -> BlockSession {
        BlockSession::new(self.contracts, self.fhe_gas_limit)
    }

    /// The precompiled contracts.
    pub(crate) fn precompiles(&self, spec: SpecId, execution: Execution) -> FheLib<EthPrecompiles> {
        let inputs = Arc::clone(&self.inputs);
        let execution = if self.only_calls { Execution::Call } else { execution };
        FheLib::new(EthPrecompiles::new(spec), self.contracts.chain_id, inputs, execution)
    }
}

impl fmt::Debug for NativeRules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NativeRules")
            .field("contracts", &self.contracts)
            .field("fhe_gas_limit", &self.fhe_gas_limit)
            .finish_non_exhaustive()
    }
}
