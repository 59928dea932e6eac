//! Transfers of ether as if they were an ERC-20 token's logs, in their place among the logs of contracts.

use alloy::primitives::{Address, B256, Bytes, Log, U256, address, b256};
use revm::Inspector;
use revm::context_interface::ContextTr;
use revm::interpreter::{CallInputs, CallOutcome, CreateInputs, CreateOutcome};

/// The address that stands for ether.
const ETHER: Address = address!("EeeeeEeeeEeEeeEeEeEeeEEEeeeeEeeeeeeeEEeE");

/// `Transfer(address,address,uint256)`.
const TRANSFER: B256 = b256!("ddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef");

/// Collects logs and transfers; what a call that fails did is dropped with it.
#[derive(Default)]
pub(super) struct Transfers {
    /// Of the calls under way, the outermost first.
    open: Vec<Vec<Log>>,
    done: Vec<Log>,
}

impl Transfers {
    pub(super) fn into_logs(self) -> Vec<Log> {
        self.done
    }

    fn push(&mut self, log: Log) {
        self.open.last_mut().unwrap_or(&mut self.done).push(log);
    }

    fn end(&mut self, succeeded: bool) {
        if let Some(logs) = self.open.pop()
            && succeeded
        {
            self.open.last_mut().unwrap_or(&mut self.done).extend(logs);
        }
    }
}

impl<C: ContextTr> Inspector<C> for Transfers {
    fn call(&mut self, _context: &mut C, inputs: &mut CallInputs) -> Option<CallOutcome> {
        self.open.push(Vec::new());
        if let Some(value) = inputs.transfer_value()
            && !value.is_zero()
        {
            self.push(transfer(inputs.transfer_from(), inputs.transfer_to(), value));
        }
        None
    }

    fn call_end(&mut self, _context: &mut C, _inputs: &CallInputs, outcome: &mut CallOutcome) {
        self.end(outcome.result.result.is_ok());
    }

    fn create(&mut self, _context: &mut C, _inputs: &mut CreateInputs) -> Option<CreateOutcome> {
        self.open.push(Vec::new());
        None
    }

    fn create_end(&mut self, _context: &mut C, inputs: &CreateInputs, outcome: &mut CreateOutcome) {
        // Only now the address is known; the transfer came before everything else.
        if let (Some(created), Some(logs)) = (outcome.address, self.open.last_mut())
            && !inputs.value().is_zero()
        {
            logs.insert(0, transfer(inputs.caller(), created, inputs.value()));
        }
        self.end(outcome.result.result.is_ok());
    }

    fn log(&mut self, _context: &mut C, log: Log) {
        self.push(log);
    }

    fn selfdestruct(&mut self, contract: Address, target: Address, value: U256) {
        if !value.is_zero() {
            self.push(transfer(contract, target, value));
        }
    }
}

fn transfer(from: Address, to: Address, value: U256) -> Log {
    let topics = vec![TRANSFER, from.into_word(), to.into_word()];
    Log::new_unchecked(ETHER, topics, Bytes::from(B256::from(value)))
}
